r"""The previous release: what of it is still running while this one is rolled out.

``release.tar.xz`` is that release's code, migrations and tests, as `git archive` packs them. With each release it is
made anew:

    git archive COMMIT agentstore migrations pyproject.toml tests/__init__.py tests/conftest.py tests/support \
        tests/contract tests/integration/__init__.py tests/integration/test_concurrency.py | xz -9e
"""
