"""The client of registries; the only code of Orlop that talks to one. Begin reading at `client.py`."""
