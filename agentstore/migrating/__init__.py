"""The schema's migrations: apply, plan, and inspect them."""
