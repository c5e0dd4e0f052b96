"""The control process: leader election and the periodic maintenance loops."""
