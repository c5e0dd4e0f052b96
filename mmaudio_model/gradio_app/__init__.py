"""The Gradio app of `mmaudio gradio`: the model in a browser, without the platform."""
