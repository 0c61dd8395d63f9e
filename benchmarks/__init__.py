"""What a call costs, beside the best that can be written by hand on the driver."""
