"""The processes of one machine: supervisor, devices, the embedded broker, and `mmaudio up`."""
