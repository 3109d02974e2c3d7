"""The command itself: a process of its own, its usage, its output."""

import json
import subprocess
import sys

import pytest
from securecloud_agent.main import main


@pytest.mark.parametrize(
    "arguments", [[], ["dance"], ["unlock", "../x"], ["unlock", "--wait", "soon"], ["enrol"]]
)
def test_usage_errors_exit_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


@pytest.mark.parametrize(
    "command", ["configure", "enrol", "unlock", "lock", "status", "facts", "run"]
)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"securecloud-agent {command}" in capsys.readouterr().out


def test_missing_configuration_says_what_to_do(tmp_path, capsys):
    assert main(["--config", str(tmp_path / "agent.toml"), "status"]) == 1
    assert "write it with `securecloud-agent configure`" in capsys.readouterr().err


def test_status_before_enrolment(home, capsys):
    home.configure()
    assert main(["--config", str(home.config), "status"]) == 0
    assert capsys.readouterr().out == "web1 is not enrolled\n"
    assert main(["--config", str(home.config), "unlock", "--json"]) == 1
    captured = capsys.readouterr()
    assert "securecloud-agent enrol" in captured.err
    assert json.loads(captured.out)["devices"] == []


def test_facts(home, capsys):
    home.configure()
    arguments = ["--config", str(home.config), "facts"]
    assert main([*arguments, "--json", "host_name", "file_digests=/etc/hostname"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["host_name"]["provenance"] == "claimed"
    assert main([*arguments, "tpm"]) == 0
    assert capsys.readouterr().out.startswith("tpm: {")
    assert main([*arguments, "astrology"]) == 1
    assert "there is: anti_malware, boot" in capsys.readouterr().err


def test_lock_without_devices(home, capsys):
    home.configure()
    assert main(["--config", str(home.config), "lock", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"changed": False, "devices": []}


def test_status_table(home, enrolled, device, no_mapper, capsys):
    main(["--config", str(home.config), "unlock"])
    main(["--config", str(home.config), "lock"])
    capsys.readouterr()
    main(["--config", str(home.config), "status"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["DEVICE", "VOLUME", "LAST", "ANSWER", "AT"]
    assert lines[3].startswith("data    closed (locked by the operator)  granted (approved)")


def test_process_protects_its_memory():
    script = (
        "import ctypes, resource\n"
        "from securecloud_agent.main import hardening\n"
        "hardening.protect_process()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE)[0])\n"
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))\n"
        "status = open('/proc/self/status').read()\n"
        "print('VmLck:\\t       0 kB' not in status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    core, dumpable, locked = done.stdout.split()
    assert (core, dumpable) == ("0", "0")
    assert (locked == "True") != ("memory could not be locked" in done.stderr)


def test_service_process_ends_on_sigterm(home):
    home.configure()
    command = [sys.executable, "-c", "from securecloud_agent.main import main; main()"]
    process = subprocess.Popen(
        [*command, "--config", str(home.config), "run"], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    lines = [process.stderr.readline(), process.stderr.readline()]
    assert "started" in lines[0]
    assert "not enrolled" in lines[1]
    process.terminate()
    _, rest = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "stopped" in rest


def test_status_imports_no_cryptography(home):
    home.configure()
    script = (
        "import sys\nfrom securecloud_agent.main import main\n"
        "main(sys.argv[1:])\n"
        "print([name for name in ('cryptography', 'ssl', 'http.client', 'asyncio', 'logging')"
        " if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{script}",
         "--config", str(home.config), "status"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"
