"""The page of `mmaudio gradio`: the model in a browser on this machine, without the platform."""
