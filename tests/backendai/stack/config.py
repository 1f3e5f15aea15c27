"""Configuration files of the manager, the storage proxy and the agents."""

from __future__ import annotations

from pathlib import Path

from backendai.stack.settings import IMAGE, NAMESPACE, Settings

SCANDIR_LIMIT = 20
"""Entries after which the storage proxy cuts a listing without saying so: 1,000 where nobody sets it."""
LOGGING = """\
[logging]
level = "INFO"
drivers = ["console"]
[logging.pkg-ns]
"" = "WARNING"
"aiotools" = "INFO"
"aiohttp" = "INFO"
"ai.backend" = "INFO"
[logging.console]
colored = false
format = "verbose"
"""
DUMMY = """\
[agent.delay]
scan-image = 0.0
pull-image = 0.0
push-image = 0.0
purge-images = 0.0
destroy-kernel = 0.0
clean-kernel = 0.0
create-network = 0.0
destroy-network = 0.0
[agent.image]
already-have = []
need-to-pull = []
missing = []
[agent.resource.cpu]
num-core = {cpus}
[agent.resource.memory]
size = {memory}
[kernel-creation-ctx.delay]
prepare-scratch = 0.0
prepare-ssh = 0.0
spawn = 0.0
start-container = 0.0
mount-krunner = 0.0
[kernel]
use-fake-code-runner = true
[kernel.delay]
check-status = 0.0
get-completions = 0.0
get-logs = 0.0
interrupt-kernel = 0.0
start-service = 0.0
start-model-service = 0.0
shutdown-service = 0.0
commit = 1.0
get-service-apps = 0.0
accept-file = 0.0
download-file = 0.0
download-single = 0.0
list-files = 0.0
"""
ALEMBIC = """\
[alembic]
script_location = ai.backend.manager.models:alembic
sqlalchemy.url = postgresql://postgres:unused@127.0.0.1:{port}/backend
[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = simple
[logger_root]
level = WARN
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = simple
[formatter_simple]
format = %(levelname)s %(message)s
"""


def address(port: int) -> str:
    """Return an address as the files have it."""
    return f'{{ host = "127.0.0.1", port = {port} }}'


def _etcd(settings: Settings) -> str:
    return (
        f'[etcd]\nnamespace = "{NAMESPACE}"\naddr = {address(settings.port("etcd"))}\nuser = ""\npassword = ""\n'
    )


def _monitors(settings: Settings, number: int) -> str:
    first = settings.port("monitors", 2 * number)
    return f"aiomonitor-termui-port = {first}\naiomonitor-webui-port = {first + 1}\n"


def manager(settings: Settings, key: Path) -> str:
    """Return manager.toml."""
    loop = "" if settings.newer else 'event-loop = "uvloop"\n'
    inside = f"internal-addr = {address(settings.port('manager inside'))}\n" if settings.newer else ""
    return f"""{_etcd(settings)}
[db]
type = "postgresql"
addr = {address(settings.port("postgres"))}
name = "backend"
user = "postgres"
password = "unused"
[manager]
num-proc = 1
service-addr = {address(settings.port("manager"))}
{inside}ipc-base-path = "{settings.state}/ipc"
rpc-auth-manager-keypair = "{key}"
heartbeat-timeout = {settings.sizes.heartbeat_timeout}
id = "i-sim-manager"
{loop}hide-agents = false
{_monitors(settings, 0)}
[docker-registry]
ssl-verify = false
{LOGGING}
[debug]
enabled = false
"""


def storage(settings: Settings) -> str:
    """Return storage.toml."""
    inside = f"internal-addr = {address(settings.port('storage inside'))}\n" if settings.newer else ""
    return f"""{_etcd(settings)}
[storage-proxy]
node-id = "i-sim-storage"
num-proc = 1
ipc-base-path = "{settings.state}/ipc"
secret = "sim-storage-token-secret"
session-expire = "1d"
scandir-limit = {SCANDIR_LIMIT}
{_monitors(settings, 1)}
[api.client]
service-addr = {address(settings.port("storage for clients"))}
ssl-enabled = false
[api.manager]
service-addr = {address(settings.port("storage for manager"))}
{inside}ssl-enabled = false
secret = "sim-manager-storage-secret"
[volume.volume1]
backend = "vfs"
path = "{settings.state}/volume1"
{LOGGING}
[debug]
enabled = false
"""


def agent(settings: Settings, number: int) -> str:
    """Return agentN.toml, from 1."""
    port, n = settings.port, number - 1
    group = "initial-resource-group-name" if settings.newer else "scaling-group"
    newer = (
        f"service-addr = {address(port('agent service', n))}\nagent-sock-port = {port('agent socket', n)}\n"
        f"metadata-server-port = {port('agent metadata', n)}\n"
    )
    return f"""{_etcd(settings)}
[agent]
backend = "dummy"
id = "i-sim-agent{number}"
rpc-listen-addr = {address(port("agent", n))}
{group} = "default"
region = "local"
instance-type = "sim"
ipc-base-path = "{settings.state}/ipc"
var-base-path = "{settings.state}/var"
image-commit-path = "{settings.state}/commit"
skip-manager-detection = false
{_monitors(settings, number + 1)}
{newer if settings.newer else ""}
[container]
bind-host = "127.0.0.1"
port-range = [{31000 + 200 * number}, {31199 + 200 * number}]
stats-type = "docker"
sandbox-type = "docker"
scratch-type = "hostdir"
scratch-root = "{settings.state}/scratch/a{number}"
kernel-uid = 0
kernel-gid = 0
[resource]
reserved-cpu = 0
reserved-mem = "0"
reserved-disk = "0"
allocation-order = ["cuda", "rocm", "tpu", "ipu", "atom", "warboy", "cpu", "mem"]
[debug]
enabled = false
heartbeat-interval = 3.0
{LOGGING}
"""


def files(settings: Settings, key: Path) -> dict[str, str]:
    """Return all files by their names."""
    found = {
        "manager.toml": manager(settings, key),
        "storage.toml": storage(settings),
        "alembic.ini": ALEMBIC.format(port=settings.port("postgres")),
    }
    for number in range(1, settings.sizes.agents + 1):
        found[f"agent{number}.toml"] = agent(settings, number)
    if settings.newer:
        sizes = settings.sizes
        found["agent.dummy.toml"] = DUMMY.format(cpus=sizes.cpus, memory=sizes.mem_gib * 2**30)
    return found


def shared(settings: Settings) -> dict[str, str]:
    """Return what all services read from etcd."""
    port = settings.port
    return {
        "config/redis/addr": f"127.0.0.1:{port('redis')}",
        "config/docker/image/auto_pull": "none",
        f"config/docker/registry/{IMAGE[0]}": "http://127.0.0.1:9",
        f"config/docker/registry/{IMAGE[0]}/type": "docker",
        "volumes/_types/user": "",
        "volumes/_types/group": "",
        "volumes/default_host": "local:volume1",
        "volumes/exposed_volume_info": "percentage",
        "volumes/proxies/local/client_api": f"http://127.0.0.1:{port('storage for clients')}",
        "volumes/proxies/local/manager_api": f"http://127.0.0.1:{port('storage for manager')}",
        "volumes/proxies/local/secret": "sim-manager-storage-secret",
        "volumes/proxies/local/ssl_verify": "false",
    }
