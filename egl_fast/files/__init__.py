"""Files that survive a kill or a power cut, and locks between processes. Needs no torch."""
