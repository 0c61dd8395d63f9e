"""Adapters: agentstore with the names, classes and behavior of other frameworks, one package per framework."""
