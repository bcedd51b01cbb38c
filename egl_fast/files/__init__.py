"""Files that survive a kill or a power cut, and locks between processes. Does not need torch."""
