"""Sharing through a real S3 server, and all that can go wrong: nothing is lost, and one line says what to do."""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import boto3
import psutil
import pytest
from botocore.exceptions import ClientError
from dvc.config import Config

from pianoai.runtime.errors import InputError
from pianoai.storage import server as s3
from pianoai.storage.advice import advice
from pianoai.verification.emulator import free_ports
from tests.faulty_s3 import Fault, in_front_of
from tests.imports import ROOT

FILES = {"large.bin": bytes(range(251)) * 12_000, "small.bin": b"notes"}  # 3 MB and 5 bytes
HASHES = {hashlib.md5(content).hexdigest() for content in FILES.values()}
LARGE = hashlib.md5(FILES["large.bin"]).hexdigest()
LOCAL = ("modify", "--local", "storage")
FEW = {"AWS_MAX_ATTEMPTS": "1"}  # fewer retries than usual, where they are in vain


class Clone:
    """A repository of DVC whose remote is on the server."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *command: str, code: int = 0, **variables: str) -> str:
        """Run a command there that must end with this exit code; what it printed."""
        hidden = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN")
        usual = {name: value for name, value in os.environ.items() if name not in hidden}
        nothing = {"AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true"}
        done = subprocess.run(
            command,
            cwd=self.root,
            env=usual | nothing | {"PYTHONPATH": str(ROOT)} | variables,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert min(done.returncode, 1) == code, f"{command}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stdout + done.stderr
        return done.stdout + done.stderr

    def dvc(self, *arguments: str, code: int = 0, **variables: str) -> str:
        """DVC as `make push` and `make pull` run it."""
        return self.run(sys.executable, "-m", "pianoai.storage", *arguments, code=code, **variables)

    def audit(self, code: int = 0) -> str:
        return self.run(sys.executable, "-m", "pianoai.storage.audit", code=code, **FEW)

    def point(self, **settings: str | int) -> None:
        """Change the remote in the local configuration."""
        with Config(str(self.root / ".dvc")).edit("local") as local:
            local.setdefault("remote", {}).setdefault("storage", {}).update(settings)

    def cached(self) -> dict[str, bytes]:
        """What the cache holds, by the hash that it is kept under."""
        found = (self.root / ".dvc/cache/files/md5").glob("*/*")
        return {path.parent.name + path.name: path.read_bytes() for path in found}

    def whole(self) -> bool:
        """Whether all files are there, as they were."""
        return {path.name: path.read_bytes() for path in self.root.glob("*.bin")} == FILES


def is_what_it_says(objects: dict[str, bytes]) -> bool:
    return all(hashlib.md5(content).hexdigest() == name for name, content in objects.items())


class Store:
    """A server with an empty bucket."""

    def __init__(self, folder: Path, server: s3.Server) -> None:
        self.folder, self.server = folder, server

    @property
    def port(self) -> int:
        return self.server.port

    def object(self, name: str) -> Path:
        return self.folder / "pianoai/dvc/files/md5" / name[:2] / name[2:]

    def objects(self) -> dict[str, bytes]:
        found = (self.folder / "pianoai/dvc/files/md5").glob("*/*")
        return {path.parent.name + path.name: path.read_bytes() for path in found}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "store/pianoai").mkdir(parents=True)
    with s3.running(tmp_path / "store", key="KEY", secret="SECRET") as server:
        yield Store(tmp_path / "store", server)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with two files that DVC keeps, and with the configuration of this one."""
    root = tmp_path_factory.mktemp("template")
    project = Clone(root)
    project.run("git", "init", "-q", "-b", "main")
    project.run(sys.executable, "-m", "dvc", "init", "-q")
    shutil.copyfile(ROOT / ".dvc/config", root / ".dvc/config")
    for name, content in FILES.items():
        (root / name).write_bytes(content)
    project.run(sys.executable, "-m", "dvc", "add", "-q", *FILES)
    project.run("git", "add", "-A")
    project.run("git", "-c", "user.name=tester", "-c", "user.email=tester@localhost", "commit", "-qm", "two files")
    return root


@pytest.fixture
def here(template: Path, store: Store, tmp_path: Path) -> Clone:
    """A repository with both files, whose remote is the server."""
    shutil.copytree(template, tmp_path / "here", symlinks=True)
    clone = Clone(tmp_path / "here")
    pointed(clone, store)
    return clone


@pytest.fixture
def there(template: Path, store: Store, tmp_path: Path) -> Clone:
    """A fresh clone without either file, whose remote is the server."""
    subprocess.run(["git", "clone", "-q", str(template), str(tmp_path / "there")], check=True)
    clone = Clone(tmp_path / "there")
    pointed(clone, store)
    return clone


def pointed(clone: Clone, store: Store) -> None:
    clone.point(endpointurl=store.server.address, access_key_id="KEY", secret_access_key="SECRET", region="us-east-1")


def test_the_committed_configuration_compares_what_arrives_with_its_name() -> None:
    with (ROOT / ".dvc/config").open() as file:
        config = file.read()
    assert "verify = true" in config
    assert "remote = storage" in config
    assert not set(config.split()) & {"access_key_id", "secret_access_key", "endpointurl"}


@pytest.mark.slow
def test_what_is_pushed_can_be_pulled_elsewhere(here: Clone, there: Clone, store: Store) -> None:
    assert "2 files pushed" in here.dvc("push")
    assert set(store.objects()) == HASHES
    assert is_what_it_says(store.objects())
    assert not there.whole()
    there.dvc("pull")
    assert there.whole()
    assert "Everything is up to date" in there.dvc("push")
    assert "cache: 2 objects, 0 damaged\nremote: 2 objects, 0 damaged" in there.audit()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"secret_access_key": "WRONG"}, "error: the secret key is wrong: dvc remote modify --local storage secret_"),
        ({"access_key_id": "WRONG"}, "error: the server does not know this key: dvc remote modify --local storage "),
        ({"url": "s3://elsewhere/dvc"}, "error: make the bucket, or name another: dvc remote modify --local storage"),
        ({"endpointurl": "closed"}, "error: no server answers there, or the connection broke; nothing is lost: run t"),
    ],
)
def test_a_wrong_setting_is_named(here: Clone, store: Store, wrong: dict[str, str], says: str) -> None:
    usual = {"url": "s3://pianoai/dvc", "endpointurl": store.server.address}
    usual |= {"access_key_id": "KEY", "secret_access_key": "SECRET"}
    if wrong.get("endpointurl"):
        wrong = {"endpointurl": f"http://127.0.0.1:{free_port()}"}
    here.point(**wrong)
    printed = here.dvc("push", code=1, **FEW)
    assert printed.splitlines()[-1].startswith(says)
    assert says in here.audit(code=1)
    assert here.whole()
    assert set(here.cached()) == HASHES
    assert store.objects() == {}
    here.point(**usual)
    assert "2 files pushed" in here.dvc("push")
    assert set(store.objects()) == HASHES


@pytest.mark.slow
def test_what_a_key_may_not_do_is_said(here: Clone, store: Store) -> None:
    with in_front_of(store.port, lambda method, path: ("status", 403) if method == "PUT" else None) as proxy:
        here.point(endpointurl=f"http://127.0.0.1:{proxy.port}")
        printed = here.dvc("push", code=1, **FEW)
    assert printed.splitlines()[-1].startswith("error: the key may not do this: docs/reproducibility.md has the policy")
    assert store.objects() == {}


def first(times: int, fault: tuple[str, int], method: str) -> Fault:
    """The fault, as often for each object."""
    seen: Counter[str] = Counter()

    def happens(verb: str, path: str) -> tuple[str, int] | None:
        if verb != method or "/files/md5/" not in path:
            return None
        seen[path] += 1
        return fault if seen[path] <= times else None

    return happens


@pytest.mark.slow
@pytest.mark.parametrize("fault", [("status", 503), ("cut upload", 1000)], ids=["503", "cut"])
def test_a_push_recovers(here: Clone, store: Store, fault: tuple[str, int]) -> None:
    with in_front_of(store.port, first(2, fault, "PUT")) as proxy:
        here.point(endpointurl=f"http://127.0.0.1:{proxy.port}")
        assert "2 files pushed" in here.dvc("push")
        sent = Counter(line.split("/")[-1] for line in proxy.seen if line.startswith("PUT"))
    assert sent == {name[2:]: 3 for name in HASHES}
    assert set(store.objects()) == HASHES
    assert is_what_it_says(store.objects())


@pytest.mark.slow
@pytest.mark.parametrize("fault", [("status", 503), ("cut download", 3)], ids=["503", "cut"])
def test_a_pull_recovers(here: Clone, there: Clone, store: Store, fault: tuple[str, int]) -> None:
    here.dvc("push")
    with in_front_of(store.port, first(2, fault, "GET")) as proxy:
        there.point(endpointurl=f"http://127.0.0.1:{proxy.port}")
        there.dvc("pull")
        assert len([line for line in proxy.seen if line.startswith(f"GET /pianoai/dvc/files/md5/{LARGE[:2]}")]) >= 3
    assert there.whole()
    assert is_what_it_says(there.cached())


@pytest.mark.slow
def test_an_object_that_is_sent_in_parts_recovers(here: Clone, there: Clone, store: Store) -> None:
    """Above 100 MB an object is sent in parts, and above 50 MB it has no checksum that a client could know."""
    content = bytes(range(256)) * 470_000
    name = hashlib.md5(content).hexdigest()
    (here.root / "huge.bin").write_bytes(content)
    here.run(sys.executable, "-m", "dvc", "add", "-q", "huge.bin")
    with in_front_of(store.port, first(1, ("cut upload", 1000), "PUT")) as proxy:
        here.point(endpointurl=f"http://127.0.0.1:{proxy.port}")
        here.dvc("push", "huge.bin")
        sent = [line for line in proxy.seen if line.startswith("PUT")]
    assert len(sent) == 2 * len(set(sent)) >= 6  # three parts, each of them twice
    assert store.objects()[name] == content
    shutil.copyfile(here.root / "huge.bin.dvc", there.root / "huge.bin.dvc")
    with in_front_of(store.port, first(2, ("cut download", 60_000_000), "GET")) as proxy:
        there.point(endpointurl=f"http://127.0.0.1:{proxy.port}")
        there.dvc("pull", "huge.bin")
    assert (there.root / "huge.bin").read_bytes() == content


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (("status", 503), "error: the server has too much to do; nothing is lost: run this again later"),
        (("cut upload", 100_000), "error: no server answers there, or the connection broke; nothing is lost: run this"),
    ],
    ids=["503", "cut"],
)
def test_a_push_in_vain_leaves_nothing_partial(here: Clone, store: Store, fault: tuple[str, int], says: str) -> None:
    large = f"{LARGE[:2]}/{LARGE[2:]}"
    with in_front_of(store.port, lambda verb, path: fault if verb == "PUT" and large in path else None) as proxy:
        here.point(endpointurl=f"http://127.0.0.1:{proxy.port}")
        printed = here.dvc("push", code=1, **FEW)
    assert printed.splitlines()[-1].startswith(says)
    assert set(store.objects()) == HASHES - {LARGE}
    assert here.whole()
    here.point(endpointurl=store.server.address)
    assert "1 file pushed" in here.dvc("push")
    assert is_what_it_says(store.objects())


@pytest.mark.slow
def test_a_pull_in_vain_leaves_nothing_partial(here: Clone, there: Clone, store: Store) -> None:
    here.dvc("push")
    large = f"{LARGE[:2]}/{LARGE[2:]}"
    cut = ("cut download", 100_000)
    with in_front_of(store.port, lambda verb, path: cut if verb == "GET" and large in path else None) as proxy:
        there.point(endpointurl=f"http://127.0.0.1:{proxy.port}")
        printed = there.dvc("pull", code=1, **FEW)
    assert printed.splitlines()[-1].startswith("error: the connection broke; nothing is lost: run this again")
    assert set(there.cached()) == HASHES - {LARGE}
    there.point(endpointurl=store.server.address)
    there.dvc("pull")
    assert there.whole()


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["PUT", "GET"], ids=["push", "pull"])
def test_a_server_that_dies_meanwhile(here: Clone, there: Clone, store: Store, verb: str) -> None:
    """It is killed while the large file is on its way; a new one has the same files, and the rest is sent."""
    if verb == "GET":
        here.dvc("push")
    clone, command = (here, "push") if verb == "PUT" else (there, "pull")
    large = f"{LARGE[:2]}/{LARGE[2:]}"

    cut = ("cut upload" if verb == "PUT" else "cut download", 100_000)
    with in_front_of(store.port, lambda method, path: cut if method == verb and large in path else None) as proxy:
        proxy.before_cut = store.server.process.kill
        clone.point(endpointurl=f"http://127.0.0.1:{proxy.port}")
        printed = clone.dvc(command, code=1, **FEW)
    assert store.server.process.wait(timeout=10) < 0
    assert "nothing is lost: run this again" in printed.splitlines()[-1]
    assert is_what_it_says(store.objects())
    assert is_what_it_says(clone.cached())
    with s3.running(store.folder, key="KEY", secret="SECRET") as again:
        clone.point(endpointurl=again.address)
        clone.dvc(command)
        assert clone.whole()
        assert "cache: 2 objects, 0 damaged\nremote: 2 objects, 0 damaged" in clone.audit()


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["flipped", "truncated"])
def test_a_damaged_object_is_refused_found_and_replaced(here: Clone, there: Clone, store: Store, damage: str) -> None:
    here.dvc("push")
    place = store.object(LARGE)
    whole = FILES["large.bin"]
    bad = whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:] if damage == "flipped" else whole[:500_000]
    place.write_bytes(bad)
    time.sleep(1.1 * s3.STALE)
    printed = there.dvc("pull", code=1)
    assert printed.splitlines()[-1].startswith("error: the remote lacks these files or has them damaged: `make audit`")
    assert not (there.root / "large.bin").exists()
    assert set(there.cached()) == HASHES - {LARGE}
    assert "Everything is up to date" in here.dvc("push")  # DVC looks at names alone
    found = there.audit(code=1)
    assert f"s3://pianoai/dvc/files/md5/{LARGE[:2]}/{LARGE[2:]}: {len(bad):,} bytes with MD5 " in found
    assert hashlib.md5(bad).hexdigest() in found
    assert "remote: 2 objects, 1 damaged" in found
    place.unlink()
    time.sleep(1.1 * s3.STALE)
    assert "1 file pushed" in here.dvc("push")
    there.dvc("pull")
    assert there.whole()
    assert "remote: 2 objects, 0 damaged" in there.audit()


@pytest.mark.slow
def test_damage_in_the_cache_is_found(here: Clone, store: Store) -> None:
    place = here.root / f".dvc/cache/files/md5/{LARGE[:2]}/{LARGE[2:]}"
    place.chmod(0o644)
    place.write_bytes(b"something else")
    found = here.audit(code=1)
    md5 = hashlib.md5(b"something else").hexdigest()
    assert f"{LARGE[:2]}/{LARGE[2:]}: 14 bytes with MD5 {md5}" in found
    assert "cache: 2 objects, 1 damaged\nremote: 0 objects, 0 damaged" in found


@pytest.mark.slow
def test_an_audit_that_breaks_off_says_so_and_what_it_found(here: Clone, store: Store) -> None:
    here.dvc("push")
    first, second = sorted(HASHES)
    store.object(first).write_bytes(b"something else")
    time.sleep(1.1 * s3.STALE)
    cut = ("cut download", 3)
    with in_front_of(store.port, lambda verb, path: cut if verb == "GET" and second[2:] in path else None) as proxy:
        here.point(endpointurl=f"http://127.0.0.1:{proxy.port}")
        printed = here.audit(code=1)
    assert f"{first[:2]}/{first[2:]}: 14 bytes with MD5 " in printed
    assert "error: the connection broke; nothing is lost: run this again" in printed


@contextmanager
def make_s3(clone: Clone, port: int) -> Iterator[subprocess.Popen[str]]:
    """`make s3` as it runs, from the moment on that it serves."""
    command = [sys.executable, "-m", "pianoai.storage.server", "--port", str(port)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=clone.root, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert f"S3 at http://127.0.0.1:{port}, bucket pianoai" in process.stdout.readline()
            yield process
        finally:
            process.terminate()


def free_port() -> int:
    (port,) = free_ports(1)
    return port


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_make_s3_points_the_remote_at_itself_while_it_runs(here: Clone, name: str) -> None:
    local = here.root / ".dvc/config.local"
    committed, before = (here.root / ".dvc/config").read_bytes(), local.read_bytes()
    port = free_port()
    (here.root / ".aws").write_text("[profile work]\nregion = eu-central-1\n")
    with make_s3(here, port) as process:
        assert local.read_bytes() != before
        # A profile of the user's does not get in the way.
        profiles = str(here.root / ".aws")
        pushed = here.run(sys.executable, "-m", "dvc", "push", AWS_CONFIG_FILE=profiles, AWS_PROFILE="work")
        assert "2 files pushed" in pushed
        stored = here.root / ".s3/files/pianoai/dvc/files/md5"
        assert {path.parent.name + path.name for path in stored.glob("*/*")} == HASHES
        with pytest.raises(HTTPError, match=r"HTTP Error 40[03]"):  # not without a key
            urlopen(f"http://127.0.0.1:{port}/pianoai?list-type=2", timeout=20)
        with pytest.raises(AssertionError, match=f"another server is the remote already, at http://127.0.0.1:{port}"):
            here.run(sys.executable, "-m", "pianoai.storage.server", "--port", str(free_port()))
        process.send_signal(getattr(signal, name))
        process.wait(timeout=20)
    assert local.read_bytes() == before
    assert (here.root / ".dvc/config").read_bytes() == committed
    assert wait_until_refused(port)


@pytest.mark.slow
def test_what_changes_meanwhile_stays_and_what_was_comes_back(here: Clone, store: Store) -> None:
    local = here.root / ".dvc/config.local"
    with make_s3(here, free_port()) as process:
        here.run(sys.executable, "-m", "dvc", "config", "--local", "core.autostage", "true")
        process.terminate()
        process.wait(timeout=20)
    with Config(str(here.root / ".dvc")).edit("local") as now:
        assert now["core"]["autostage"] == "true"
        assert now["remote"]["storage"]["endpointurl"] == store.server.address
    before = local.read_bytes()
    with make_s3(here, free_port()) as process:
        process.kill()  # it cannot put anything back
        process.wait()
        (child,) = running_rclone(here.root)
        os.kill(child, signal.SIGTERM)
    assert local.read_bytes() != before
    with make_s3(here, free_port()) as process:
        process.terminate()
        process.wait(timeout=20)
    assert local.read_bytes() == before


def running_rclone(root: Path) -> list[int]:
    """Process numbers of the servers that keep their files below a folder."""
    found = psutil.process_iter(["name", "cwd"])
    return [each.pid for each in found if each.info["name"] == "rclone" and each.info["cwd"] == str(root.resolve())]


def wait_until_refused(port: int) -> bool:
    end = time.monotonic() + 10
    while time.monotonic() < end and not refused(port):
        time.sleep(0.05)
    return refused(port)


def refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} is taken; name another one: make s3 PORT={port + 1}"):
            s3.running(tmp_path, port).__enter__()


@pytest.mark.parametrize("port", [-1, 70_000])
def test_a_port_that_cannot_be_is_named(tmp_path: Path, port: int) -> None:
    with pytest.raises(InputError, match=f"there is no port {port}; name one from 1024 to 65535"):
        s3.running(tmp_path, port).__enter__()


def test_without_rclone_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *given, **named: None)
    with pytest.raises(InputError, match="rclone is not installed; `make install` brings it"):
        s3.running(tmp_path).__enter__()


def test_a_remote_elsewhere_is_no_bucket(template: Path, tmp_path: Path) -> None:
    shutil.copytree(template / ".dvc", tmp_path / ".dvc")
    assert s3.bucket(Config(str(tmp_path / ".dvc"))) == "pianoai"
    (tmp_path / ".dvc/config").write_text("['remote \"storage\"']\n    url = /mnt/storage\n")
    with pytest.raises(InputError, match=r"\.dvc/config: remote storage must have a url such as s3://BUCKET/PATH"):
        s3.bucket(Config(str(tmp_path / ".dvc")))


def test_advice_is_of_the_cause_and_no_advice_better_than_wrong_advice() -> None:
    assert advice("something nobody has seen") == []
    assert advice("403 Forbidden\nSignatureDoesNotMatch")[0].startswith("the secret key is wrong")
    assert advice("An error occurred (ExpiredToken)")[0].startswith("the session's token has run out")
    assert advice("the file of 5031 bytes") == []
    assert advice("503 files failed to upload: Could not connect to the endpoint URL")[0].startswith(
        "no server answers"
    )
    assert advice("Checkout failed for following targets: models/403.pt")[0].startswith("the remote lacks these files")


@pytest.mark.slow
def test_the_documented_policy_is_enough_and_no_more(here: Clone, there: Clone) -> None:
    """With moto, which holds a user to the actions and resources of its policy, though it knows no conditions."""
    text = (ROOT / "docs/reproducibility.md").read_text("utf-8")
    policy = json.loads(
        text[text.index('{\n  "Version": "2012-10-17"') :].split("```")[0].replace("YOUR-BUCKET", "shared")
    )
    assert policy["Statement"][0].pop("Condition") == {"StringLike": {"s3:prefix": ["pianoai", "pianoai/*"]}}
    with imitation(setting_up=4) as address:
        clients = {"endpoint_url": address, "region_name": "us-east-1"}
        keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}
        boto3.client("s3", **clients, **keys).create_bucket(Bucket="shared")
        iam = boto3.client("iam", **clients, **keys)
        iam.create_user(UserName="writer")
        iam.put_user_policy(UserName="writer", PolicyName="pushes", PolicyDocument=json.dumps(policy))
        made = iam.create_access_key(UserName="writer")["AccessKey"]
        for clone in (here, there):
            clone.point(
                url="s3://shared/pianoai",
                endpointurl=address,
                access_key_id=made["AccessKeyId"],
                secret_access_key=made["SecretAccessKey"],
            )
        assert "2 files pushed" in here.dvc("push")
        there.dvc("pull")
        assert there.whole()
        assert "remote: 2 objects, 0 damaged" in there.audit()
        with pytest.raises(ClientError, match="AccessDenied"):
            boto3.client(
                "s3", **clients, aws_access_key_id=made["AccessKeyId"], aws_secret_access_key=made["SecretAccessKey"]
            ).delete_object(Bucket="shared", Key=f"pianoai/files/md5/{LARGE[:2]}/{LARGE[2:]}")


@contextmanager
def imitation(setting_up: int) -> Iterator[str]:
    """The address of moto's server, which asks for rights after so many calls."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment = os.environ | {"INITIAL_NO_AUTH_ACTION_COUNT": str(setting_up)}
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet) as process:
        try:
            end = time.monotonic() + 30
            while refused(port) and time.monotonic() < end:
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
