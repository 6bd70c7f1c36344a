"""Moving images: registry ↔ store ↔ archives. A source, a destination, progress, single-flight per digest."""
