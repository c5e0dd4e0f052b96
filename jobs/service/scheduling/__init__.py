"""Which queued job runs next: selection, fair share, dispatch to the broker, queue counters, statistics and quotas."""
