"""Redis and Valkey: keys, operations as values, connections, Lua scripts."""
