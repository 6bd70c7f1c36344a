"""From tar streams to trees (applier) and from trees to tar streams (differ): containerd's Applier and Comparer."""
