"""The revisions as they are read from their files, without Alembic."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from agentstore import NotConfigured, migrate
from agentstore.migrating import revisions
from tests.support.cli import run

_ROOT = Path(__file__).parents[2]
_BASE = 'revision = "0001"\ndown_revision = None\nphase = "pre"\n'


def _config(folder: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(folder))
    return config


@pytest.mark.parametrize("line", ["", "vector"])
def test_history_is_what_alembic_reads(line: str) -> None:
    scripts = ScriptDirectory.from_config(_config(revisions.folder() / line))
    assert [(each.id, each.previous, each.title, each.phase) for each in migrate.history(line)] == [
        (script.revision, script.down_revision, script.doc, script.module.phase) for script in scripts.walk_revisions()
    ]
    assert [migrate.head(line)] == scripts.get_heads()
    assert [migrate.history(line)[-1].id] == scripts.get_bases()


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a line whose first revision is 0001."""
    monkeypatch.setattr(revisions, "folder", lambda: tmp_path)
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions" / "0001_base.py").write_text(_BASE)
    return tmp_path / "versions"


def test_annotated_constants_and_other_files_are_read_as_alembic_does(line: Path) -> None:
    (line / "second.py").write_text(
        '"""The second.\n\nMore."""\nrevision: str = "0002"\ndown_revision: str | None = "0001"\nphase: str = "post"\n'
    )
    for name in ("__init__.py", ".#0003.py", "notes.txt"):
        (line / name).write_text("neither Python nor a revision")
    assert [(each.id, each.previous, each.title, each.phase) for each in migrate.history()] == [
        ("0002", "0001", "The second.", "post"),
        ("0001", None, "", "pre"),
    ]
    assert (migrate.head(), migrate.needed()) == ("0002", "0001")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"b.py": _BASE}, "0001_base.py and b.py both define revision '0001'"),
        ({"b.py": _BASE.replace("0001", "0002")}, "0001_base.py and b.py both follow revision None"),
        (
            {
                "b.py": 'revision = "0002"\ndown_revision = "0001"\nphase = "pre"\n',
                "c.py": 'revision = "0003"\ndown_revision = "0001"\nphase = "pre"\n',
            },
            "b.py and c.py both follow revision '0001'",
        ),
        ({"b.py": 'revision = "0003"\ndown_revision = "0002"\nphase = "pre"\n'}, "'0003' cannot be reached"),
        ({"b.py": 'revision = "0003"\ndown_revision = "0003"\nphase = "pre"\n'}, "'0003' cannot be reached"),
        ({"b.py": 'revision = "0003"\ndown_revision = ("0001", "0002")\nphase = "pre"\n'}, "`down_revision` in b.py"),
        ({"b.py": 'revision = "0003"\nphase = "pre"\n'}, "`down_revision` in b.py"),
        ({"b.py": 'revision = str(3)\ndown_revision = "0001"\nphase = "pre"\n'}, "`revision` in b.py"),
        ({"b.py": 'revision = "0003"\ndown_revision = "0001"\n'}, "`phase` in b.py is neither 'pre' nor 'post'"),
        ({"b.py": 'revision = "0003"\ndown_revision = "0001"\nphase = "later"\n'}, "`phase` in b.py"),
        ({"b.py": "revision ="}, "b.py is not valid Python"),
        ({"b.py": "revision = '\0'"}, "b.py is not valid Python"),
    ],
)
def test_files_that_are_not_one_chain_are_an_error(line: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (line / name).write_text(text)
    with pytest.raises(NotConfigured, match="not one chain of revisions") as failed:
        migrate.history()
    assert message in str(failed.value)


def test_an_installation_without_migrations_is_an_error(line: Path) -> None:
    shutil.rmtree(line)
    with pytest.raises(NotConfigured, match="no file defines a first revision"):
        migrate.head()


_LOADED = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules} & {'alembic', 'mako'}))"


def _libraries_loaded_by(program: str, *arguments: str) -> list[str]:
    """Run a program in a new process; return which of Alembic and Mako it has loaded."""
    command = [sys.executable, "-c", f"{program}\n{_LOADED}", *arguments]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()


@pytest.mark.parametrize("mode", ["check", "upgrade"])
def test_a_store_at_head_starts_without_loading_alembic(direct_url: str, mode: str) -> None:
    program = f"""
import asyncio, sys
from agentstore import AgentStore, Settings, migrate
async def main():
    async with AgentStore(sys.argv[1], settings=Settings(auto_migrate={mode!r})) as store:
        assert await store.health()
asyncio.run(main())"""
    assert _libraries_loaded_by(program, direct_url) == []


@pytest.mark.parametrize("arguments", [("check", "--url"), ("current", "--url"), ("history",), ("heads",), ("--help",)])
def test_commands_that_only_read_revisions_do_not_load_alembic(direct_url: str, arguments: tuple[str, ...]) -> None:
    program = """
import sys
from agentstore.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code"""
    assert _libraries_loaded_by(program, *arguments, *([direct_url] if "--url" in arguments else [])) == []


def test_names_of_the_package_are_imported_from_where_they_are_defined() -> None:
    assert set(migrate.__all__) == migrate._DEFINED_IN.keys() <= set(dir(migrate))
    for name in migrate.__all__:
        assert getattr(migrate, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'upgrad'"):
        migrate.upgrad  # type: ignore[attr-defined] # noqa: B018
    modules = {path.stem for path in Path(revisions.__file__).parent.glob("*.py")}
    assert not modules & set(migrate.__all__), "importing such a module would hide the function of the same name"


def test_a_generated_migration_has_the_form_of_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "migrations"
    shutil.copytree(_ROOT / "migrations", folder, ignore=shutil.ignore_patterns("__pycache__"))
    config = _config(folder)
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    before = migrate.head()
    command.revision(config, message="add a size", rev_id="9001")
    assert (folder / "versions" / "9001_add_a_size.py").read_text() == (
        f'"""Add a size.\n\nRevision ID: 9001\nRevises: {before}\n\nLocks: ... Time: ...\n"""\n\n'
        "import sqlalchemy as sa\nfrom alembic import op\n\n"
        f'revision = "9001"\ndown_revision = "{before}"\nbranch_labels = None\ndepends_on = None\nphase = "pre"\n\n\n'
        "def upgrade() -> None:\n    pass\n\n\ndef downgrade() -> None:\n    pass\n"
    )
    monkeypatch.setattr(revisions, "folder", lambda: folder)
    assert migrate.history()[0] == migrate.Revision("9001", before, "Add a size.", "pre")
    assert run("heads", "--json").json()["schema"] == "9001"
