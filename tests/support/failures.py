"""Errors that the server reports once."""

FAIL_ONCE = """
CREATE FUNCTION public.fail_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('public.failures') = 1 THEN RAISE SQLSTATE '40P01'; END IF;
    RETURN NEW;
END $$;
CREATE SEQUENCE public.failures;
CREATE TRIGGER fail BEFORE INSERT ON agentstore.sessions EXECUTE FUNCTION public.fail_once();
"""
"""The first session that is created afterwards meets a deadlock."""
