"""Events of jobs for those who wait or stream: read from the database by one thread a process, sent by the bridge."""
