"""agentstore under the names, classes and habits of other frameworks."""
