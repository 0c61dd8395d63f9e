"""The contenders, one module each: agentstore, the floor, an ORM, and packages that solve the same problem."""
