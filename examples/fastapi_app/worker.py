"""The worker: `leanmq run` calls this for every job."""


def complete(data: dict, message) -> None:
    kept = "its task id came with it" if message.correlation_id == message.id else "its task id is lost"
    print(f"{data['model']}: {data['prompt']} ({kept})", flush=True)
