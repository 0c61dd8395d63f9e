"""Those who are measured, a module each: ours, the floor, an ORM, and the packages that people use instead."""
