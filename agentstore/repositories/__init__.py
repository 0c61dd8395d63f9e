"""The services on Postgres. Every statement of agentstore is here."""
