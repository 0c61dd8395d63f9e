r"""The previous release, which is still running while this one is rolled out.

``release.tar.xz`` contains its code, migrations and tests. Create it again for each release:

    git archive COMMIT agentstore migrations pyproject.toml tests/__init__.py tests/conftest.py tests/support \
        tests/contract tests/integration/__init__.py tests/integration/test_concurrency.py | xz -9e
"""
