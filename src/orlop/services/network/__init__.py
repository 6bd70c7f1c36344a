"""Container networks: bridges, addresses, published ports, names. `networks.Networks` is what the engine uses."""
