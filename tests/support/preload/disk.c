/* What a power failure would leave of each file: preloaded into a server, for tests.
 *
 * PRELOAD_SYNCED names a file that gets a line `<inode> <bytes>` whenever a file has been synced: so many of its
 * bytes survive from then on. The size is taken before the sync, since what is written during it may be left out.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int journal = -1;

__attribute__((constructor)) static void open_journal(void) {
    const char *path = getenv("PRELOAD_SYNCED");
    if (path)
        journal = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
}

static int sync_and_note(long number, int file) {
    struct stat before;
    int known = fstat(file, &before) == 0 && S_ISREG(before.st_mode);
    int failed = (int)syscall(number, file);
    if (!failed && known && journal >= 0) {
        char line[64];
        int length = snprintf(line, sizeof line, "%ju %jd\n", (uintmax_t)before.st_ino, (intmax_t)before.st_size);
        if (write(journal, line, (size_t)length) != length)
            abort(); /* a test must not go on without knowing what is safe */
    }
    return failed;
}

int fdatasync(int file) {
    return sync_and_note(SYS_fdatasync, file);
}

int fsync(int file) {
    return sync_and_note(SYS_fsync, file);
}
