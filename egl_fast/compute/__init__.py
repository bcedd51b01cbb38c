"""What computes, and how: devices, memory, precision and rate of matrix products."""
