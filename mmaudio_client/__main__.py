"""`python -m mmaudio_client` is the `mmaudio` command."""

from mmaudio_client.cli import main

if __name__ == "__main__":
    main(prog_name="mmaudio")
