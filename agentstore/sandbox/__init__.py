"""What makes sandboxes: a provider for each way to isolate. The registry of who has which is in the repositories."""
