"""An interactive session over one topology: `leanmq shell`, and `pub` and `sub` where commands are typed.

verbs       the commands there are, and which session has which
conversation  one line after another: finds the command, carries it out, says what went wrong
listening, publishing   what the commands about channels do
completion  what could come next; pure
terminal    where lines come from: a prompt with history and Tab, or plain standard input
"""
