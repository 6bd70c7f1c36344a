"""The command line as one table: commands, flags, types, help. The parser, `--help` and completion all read it.

Everything here is a constant tuple, so that importing it costs nothing (the compiler stores it ready-made). Names,
flags, defaults and wording follow Docker's command line, so that fingers and scripts need not learn anything.

A flag is (long, short, type, value name, help). Types: "bool", "string", "int", "float", "list" (may be given several
times), "size" ("512m"), "duration" (seconds, or Go's "1m30s"). A command is (module, usage, summary, flags,
interspersed, minimum of arguments, maximum (-1: any), examples). Flags of a command that is not interspersed end at the
first argument: what follows belongs to the container.
"""

# ruff: noqa: E501 - one row a line reads better than a wrapped one

from __future__ import annotations

GLOBAL_FLAGS = (
    ("root", "", "string", "DIR", "Where images and containers are stored (default /var/lib/orlop; $ORLOP_ROOT)"),
    ("state", "", "string", "DIR", "Where the state of running containers is kept (default under /run/orlop; $ORLOP_STATE)"),
    ("namespace", "n", "string", "NAME", 'Namespace to work in (default "default"; $ORLOP_NAMESPACE)'),
    ("snapshotter", "", "string", "NAME", "Snapshotter: overlay or native (default: the best that works; $ORLOP_SNAPSHOTTER)"),
    ("insecure-registry", "", "bool", "", "Allow plain HTTP and unverified TLS to registries that are not on loopback"),
    ("debug", "D", "bool", "", "Print the whole traceback of an error"),
    ("version", "v", "bool", "", "Print the version and exit"),
    ("help", "", "bool", "", "Print this help and exit"),
)  # fmt: skip

_FORMAT = ("format", "f", "string", "TEMPLATE", "Print with a Go template, or 'json'")
_FORMAT_LONG = ("format", "", "string", "TEMPLATE", "Print with a Go template: 'table …', 'json' or a template")
_QUIET = ("quiet", "q", "bool", "", "Print only IDs")
_PLATFORM = ("platform", "", "string", "OS/ARCH[/VARIANT]", "Use this platform of a multi-platform image")

_CREATE_FLAGS = (
    ("add-host", "", "list", "NAME:ADDRESS", "Add a line to /etc/hosts (the address may be host-gateway)"),
    ("dns", "", "list", "ADDRESS", "Ask this name server"),
    ("dns-option", "", "list", "OPTION", "Set an option of resolv.conf"),
    ("dns-opt", "", "alias", "dns-option", ""),
    ("dns-search", "", "list", "DOMAIN", "Search this domain"),
    ("expose", "", "list", "PORT[/PROTOCOL]", "Expose a port (for --publish-all)"),
    ("ip", "", "string", "ADDRESS", "IPv4 address"),
    ("mac-address", "", "string", "ADDRESS", "MAC address"),
    ("network-alias", "", "list", "NAME", "Another name on a user-defined network"),
    ("net-alias", "", "alias", "network-alias", ""),
    ("publish", "p", "list", "[[IP:]PORT:]PORT[/PROTOCOL]", "Publish a port on the host (on 127.0.0.1 unless an address is given)"),
    ("publish-all", "P", "bool", "", "Publish all exposed ports on ports of the kernel's choice"),
    ("annotation", "", "list", "KEY=VALUE", "Add an annotation to the container's runtime specification"),
    ("blkio-weight", "", "int", "WEIGHT", "Block I/O weight (10 to 1000; 0: none)"),
    ("blkio-weight-device", "", "list", "DEVICE:WEIGHT", "Block I/O weight of a device"),
    ("cap-add", "", "list", "CAP", "Add a Linux capability"),
    ("cap-drop", "", "list", "CAP", "Drop a Linux capability"),
    ("cgroup-parent", "", "string", "PATH", "Put the container under this cgroup"),
    ("cgroupns", "", "string", "MODE", "Cgroup namespace: private, host or container:NAME"),
    ("cidfile", "", "string", "FILE", "Write the container ID to the file"),
    ("cpu-period", "", "int", "MICROSECONDS", "Limit the CPU quota's period"),
    ("cpu-quota", "", "int", "MICROSECONDS", "Limit the CPU time in each period"),
    ("cpu-rt-period", "", "int", "MICROSECONDS", "Limit the real-time scheduling period"),
    ("cpu-rt-runtime", "", "int", "MICROSECONDS", "Limit real-time scheduling in each period"),
    ("cpu-shares", "c", "int", "WEIGHT", "CPU shares (relative weight)"),
    ("cpus", "", "float", "NUMBER", "Number of CPUs"),
    ("cpuset-cpus", "", "string", "LIST", "CPUs the container may use (0-3, 0,1)"),
    ("cpuset-mems", "", "string", "LIST", "Memory nodes the container may use (0-3, 0,1)"),
    ("device", "", "list", "HOST[:CONTAINER[:rwm]]", "Add a host device, or a CDI device (vendor/class=name)"),
    ("device-cgroup-rule", "", "list", "RULE", "Allow devices ('c 10:* rw')"),
    ("device-read-bps", "", "list", "DEVICE:RATE", "Limit the read rate (bytes a second) of a device"),
    ("device-read-iops", "", "list", "DEVICE:RATE", "Limit the read rate (operations a second) of a device"),
    ("device-write-bps", "", "list", "DEVICE:RATE", "Limit the write rate (bytes a second) of a device"),
    ("device-write-iops", "", "list", "DEVICE:RATE", "Limit the write rate (operations a second) of a device"),
    ("domainname", "", "string", "NAME", "The container's NIS domain name"),
    ("entrypoint", "", "string", "COMMAND", "Replace the image's ENTRYPOINT"),
    ("env", "e", "list", "NAME[=VALUE]", "Set an environment variable (without a value: hand on the caller's)"),
    ("env-file", "", "list", "FILE", "Read environment variables from a file"),
    ("gpus", "", "list", "GPUS", "Add GPUs by their vendor's CDI description (all, a number, device=0)"),
    ("group-add", "", "list", "GROUP", "Add a supplementary group"),
    ("health-cmd", "", "string", "COMMAND", "Command that tells whether the container is healthy"),
    ("health-interval", "", "string", "DURATION", "Time between two health checks (default 30s)"),
    ("health-retries", "", "int", "NUMBER", "Failures in a row that make it unhealthy (default 3)"),
    ("health-start-interval", "", "string", "DURATION", "Time between two health checks while it starts (default 5s)"),
    ("health-start-period", "", "string", "DURATION", "Time it may take to start: failures do not count"),
    ("health-timeout", "", "string", "DURATION", "Time a health check may take (default 30s)"),
    ("hostname", "h", "string", "NAME", "The container's host name"),
    ("init", "", "bool", "", "Run an init that forwards signals and reaps processes"),
    ("init-binary", "", "string", "PATH", "The host's static program to use for --init"),
    ("interactive", "i", "bool", "", "Keep standard input open"),
    ("ipc", "", "string", "MODE", "IPC namespace: private, shareable, none, host or container:NAME"),
    ("kernel-memory", "", "size", "BYTES", "Deprecated, has no effect: --memory limits the kernel's memory too"),
    ("label", "l", "list", "KEY[=VALUE]", "Set a label"),
    ("label-file", "", "list", "FILE", "Read labels from a file"),
    ("log-driver", "", "string", "DRIVER", "Where the output is logged: json-file or none"),
    ("log-opt", "", "list", "KEY=VALUE", "Option of the log driver (max-size, max-file)"),
    ("memory", "m", "size", "BYTES", "Memory limit (512m, 2g)"),
    ("memory-reservation", "", "size", "BYTES", "Soft memory limit"),
    ("memory-swap", "", "string", "BYTES", "Memory plus swap limit (-1: swap without limit)"),
    ("memory-swappiness", "", "int", "NUMBER", "How readily memory is swapped out (0 to 100; -1: the default)"),
    ("mount", "", "list", "SPEC", "Mount a file system (type=bind|volume|tmpfs|image,source=…,target=…[,readonly])"),
    ("name", "", "string", "NAME", "Name the container"),
    ("network", "", "string", "NETWORK", "Network: none (default), bridge, host, container:NAME or a network's name"),
    ("net", "", "alias", "network", ""),
    ("no-healthcheck", "", "bool", "", "Run none of the image's health checks"),
    ("oom-kill-disable", "", "bool", "", "Do not kill processes when memory runs out (cgroup v1)"),
    ("oom-score-adj", "", "int", "NUMBER", "Adjust the OOM killer's preference (-1000 to 1000)"),
    ("pid", "", "string", "MODE", "PID namespace: '' (its own), host or container:NAME"),
    ("pids-limit", "", "int", "NUMBER", "Limit the number of processes (-1: no limit)"),
    _PLATFORM,
    ("privileged", "", "bool", "", "Give the container all that its caller may do (dangerous)"),
    ("pull", "", "string", "POLICY", "Pull the image: always, missing (default) or never"),
    ("quiet", "q", "bool", "", "Do not print the pull's progress"),
    ("read-only", "", "bool", "", "Mount the root file system read-only"),
    ("restart", "", "string", "POLICY", "Restart it when it ends: no (default), always, unless-stopped or on-failure[:MAX]"),
    ("rm", "", "bool", "", "Remove the container when it exits"),
    ("runtime", "", "string", "NAME", "OCI runtime: crun, runc or a path"),
    ("security-opt", "", "list", "OPTION", "seccomp=FILE|unconfined, apparmor=NAME, no-new-privileges[=false], systempaths=unconfined, label=disable, writable-cgroups"),
    ("shm-size", "", "size", "BYTES", "Size of /dev/shm (default 64m)"),
    ("stop-signal", "", "string", "SIGNAL", "Signal that stops the container (default: the image's, or SIGTERM)"),
    ("stop-timeout", "", "int", "SECONDS", "Seconds to wait before the container is killed (default 10)"),
    ("storage-opt", "", "list", "KEY=VALUE", ""),
    ("sysctl", "", "list", "KEY=VALUE", "Set a sysctl of the container's namespaces"),
    ("tmpfs", "", "list", "DIR[:OPTIONS]", "Mount a tmpfs"),
    ("tty", "t", "bool", "", "Allocate a terminal"),
    ("ulimit", "", "list", "NAME=SOFT[:HARD]", "Set a resource limit"),
    ("umask", "", "string", "MODE", "The process's umask (default 0022)"),
    ("user", "u", "string", "USER[:GROUP]", "User name or number, and group"),
    ("userns", "", "string", "MODE", "User namespace: host"),
    ("uts", "", "string", "MODE", "UTS namespace: '' (its own), host or container:NAME"),
    ("volume", "v", "list", "[SOURCE:]DIR[:OPTIONS]", "Mount a volume (by name) or a file or directory (by path)"),
    ("volume-driver", "", "string", "NAME", "Volume driver of new volumes: local"),
    ("volumes-from", "", "list", "CONTAINER[:ro]", "Mount the volumes and binds of another container"),
    ("workdir", "w", "string", "DIR", "Working directory inside the container"),
)  # fmt: skip

_DETACH_KEYS = ("detach-keys", "", "string", "KEYS", 'Keys that detach from a terminal (default "ctrl-p,ctrl-q")')

_RUN_FLAGS = (
    ("attach", "a", "list", "STREAM", "Attach to stdin, stdout or stderr"),
    ("detach", "d", "bool", "", "Run in the background and print the container ID"),
    _DETACH_KEYS,
    ("sig-proxy", "", "bool", "", "Proxy received signals to the process (default true)"),
    *_CREATE_FLAGS,
)

_UPDATABLE = (
    "cpu-period",
    "cpu-quota",
    "cpu-shares",
    "cpus",
    "cpuset-cpus",
    "cpuset-mems",
    "memory",
    "memory-reservation",
    "memory-swap",
    "pids-limit",
    "blkio-weight",
    "restart",
)

COMMANDS = {
    "create": ("create", "create [OPTIONS] IMAGE [COMMAND] [ARG...]", "Create a new container", _CREATE_FLAGS, False, 1, -1, ""),
    "exec": ("exec", "exec [OPTIONS] CONTAINER COMMAND [ARG...]", "Execute a command in a running container", (
        ("detach", "d", "bool", "", "Run the command in the background"),
        _DETACH_KEYS,
        ("env", "e", "list", "NAME[=VALUE]", "Set an environment variable"),
        ("env-file", "", "list", "FILE", "Read environment variables from a file"),
        ("interactive", "i", "bool", "", "Keep standard input open"),
        ("privileged", "", "bool", "", "Give the command all capabilities the engine has"),
        ("tty", "t", "bool", "", "Allocate a terminal"),
        ("user", "u", "string", "USER[:GROUP]", "User name or number, and group"),
        ("workdir", "w", "string", "DIR", "Working directory inside the container"),
    ), False, 2, -1, ""),
    "gc": ("gc", "gc [OPTIONS]", "Remove content, layers and snapshots that nothing refers to", (
        ("dry-run", "", "bool", "", "Print what would be removed, remove nothing"),
        _QUIET,
        ("format", "", "string", "TEMPLATE", "Print with a Go template, or 'json'"),
        ("why", "", "string", "RESOURCE", "Tell why a digest, snapshot or layer is kept"),
    ), True, 0, 0, ""),
    "images": ("images", "images [OPTIONS] [REPOSITORY[:TAG]]", "List images", (
        ("all", "a", "bool", "", "Show all images"),
        ("digests", "", "bool", "", "Show digests"),
        ("filter", "f", "list", "FILTER", "Filter: reference=PATTERN, label=KEY[=VALUE], dangling=BOOL, before=, since="),
        _FORMAT_LONG,
        ("no-trunc", "", "bool", "", "Do not shorten IDs"),
        _QUIET,
    ), True, 0, 1, ""),
    "import": ("import_", "import [OPTIONS] FILE|- [REPOSITORY[:TAG]]", "Make an image of a root file system's tar archive", (
        ("change", "c", "list", "INSTRUCTION", "Apply a Dockerfile instruction (CMD, ENTRYPOINT, ENV, …)"),
        ("message", "m", "string", "TEXT", "Comment for the image's history"),
        _PLATFORM,
        ("compression", "", "string", "KIND", "Compress the layer: gzip (default), zstd or none"),
    ), True, 1, 2, "tar -C rootfs -c . | orlop import - my/image:latest"),
    "info": ("info", "info [OPTIONS]", "Display what this engine and machine can do", (_FORMAT,), True, 0, 0, ""),
    "inspect": ("inspect", "inspect [OPTIONS] NAME|ID [NAME|ID...]", "Return low-level information on containers and images", (
        _FORMAT,
        ("size", "s", "bool", "", "Add a container's sizes"),
        ("type", "", "string", "TYPE", "container or image"),
    ), True, 1, -1, ""),
    "kill": ("kill", "kill [OPTIONS] CONTAINER [CONTAINER...]", "Send a signal to running containers", (
        ("signal", "s", "string", "SIGNAL", "Signal to send (default KILL)"),
    ), True, 1, -1, ""),
    "load": ("load", "load [OPTIONS]", "Load images from an archive or an OCI layout", (
        ("input", "i", "string", "PATH", "Read from this archive or directory, not from standard input"),
        _PLATFORM,
        ("quiet", "q", "bool", "", "Do not print progress"),
    ), True, 0, 0, ""),
    "login": ("login", "login [OPTIONS] [SERVER]", "Log in to a registry", (
        ("password", "p", "string", "PASSWORD", "Password (prefer --password-stdin: arguments can be seen by others)"),
        ("password-stdin", "", "bool", "", "Take the password from standard input"),
        ("username", "u", "string", "USER", "User name"),
    ), True, 0, 1, ""),
    "logout": ("logout", "logout [SERVER]", "Log out from a registry", (), True, 0, 1, ""),
    "logs": ("logs", "logs [OPTIONS] CONTAINER", "Fetch the logs of a container", (
        ("details", "", "bool", "", "Show extra attributes"),
        ("follow", "f", "bool", "", "Follow the output"),
        ("since", "", "string", "TIME", "Since a time (2026-11-23T10:00:00Z) or for a duration (42m)"),
        ("tail", "n", "string", "LINES", "Number of lines from the end (default all)"),
        ("timestamps", "t", "bool", "", "Show times"),
        ("until", "", "string", "TIME", "Until a time or a duration ago"),
    ), True, 1, 1, ""),
    "network_create": ("network_create", "network create [OPTIONS] NETWORK", "Create a network", (
        ("driver", "d", "string", "DRIVER", "Driver (bridge)"),
        ("gateway", "", "list", "ADDRESS", "The bridge's address in its subnet"),
        ("internal", "", "bool", "", "No way out of the network"),
        ("ip-range", "", "string", "SUBNET", "Give addresses from this part of the subnet"),
        ("ipv6", "", "bool", "", "With IPv6 (default: where the kernel has it)"),
        ("label", "", "list", "KEY[=VALUE]", "Set a label"),
        ("opt", "o", "list", "KEY=VALUE", "Set an option of the driver (mtu)"),
        ("subnet", "", "list", "SUBNET", "Subnet (10.1.0.0/24); a second one may be IPv6"),
    ), True, 1, 1, ""),
    "network_inspect": ("network_inspect", "network inspect [OPTIONS] NETWORK [NETWORK...]", "Return low-level information on networks", (_FORMAT,), True, 1, -1, ""),
    "network_ls": ("network_ls", "network ls [OPTIONS]", "List networks", (
        ("filter", "f", "list", "FILTER", "Filter: name, id, driver, label"),
        _FORMAT_LONG,
        ("no-trunc", "", "bool", "", "Do not shorten IDs"),
        _QUIET,
    ), True, 0, 0, ""),
    "network_prune": ("network_prune", "network prune [OPTIONS]", "Remove networks that no container uses", (
        ("force", "f", "bool", "", "Do not ask"),
    ), True, 0, 0, ""),
    "network_rm": ("network_rm", "network rm [OPTIONS] NETWORK [NETWORK...]", "Remove networks", (
        ("force", "f", "bool", "", "No error for networks that do not exist"),
    ), True, 1, -1, ""),
    "pause": ("pause", "pause CONTAINER [CONTAINER...]", "Pause all processes of containers", (), True, 1, -1, ""),
    "port": ("port", "port CONTAINER [PORT[/PROTOCOL]]", "List the published ports of a container", (), True, 1, 2, ""),
    "ps": ("ps", "ps [OPTIONS]", "List containers", (
        ("all", "a", "bool", "", "Show all containers (default: those that run)"),
        ("filter", "f", "list", "FILTER", "Filter: id, name, label, status, exited, ancestor, before, since"),
        _FORMAT_LONG,
        ("last", "n", "int", "NUMBER", "Show the last created containers, whatever their state"),
        ("latest", "l", "bool", "", "Show the latest created container"),
        ("no-trunc", "", "bool", "", "Do not shorten the output"),
        _QUIET,
        ("size", "s", "bool", "", "Show sizes"),
    ), True, 0, 0, ""),
    "pull": ("pull", "pull [OPTIONS] NAME[:TAG|@DIGEST]", "Download an image from a registry", (
        ("all-platforms", "", "bool", "", "Download every platform (only the fitting one is unpacked)"),
        _PLATFORM,
        ("quiet", "q", "bool", "", "Do not print progress"),
        ("unpack", "", "string", "BOOL", "Unpack the image: true (default) or false"),
        ("trace", "", "bool", "", "Print every request to registries"),
    ), True, 1, 1, ""),
    "push": ("push", "push [OPTIONS] NAME[:TAG]", "Upload an image to a registry", (
        ("all-tags", "a", "bool", "", "Push all tags of the repository"),
        _PLATFORM,
        ("quiet", "q", "bool", "", "Do not print progress"),
        ("trace", "", "bool", "", "Print every request to registries"),
    ), True, 1, 1, ""),
    "rename": ("rename", "rename CONTAINER NEW_NAME", "Rename a container", (), True, 2, 2, ""),
    "restart": ("restart", "restart [OPTIONS] CONTAINER [CONTAINER...]", "Restart containers", (
        ("signal", "s", "string", "SIGNAL", "Signal to send first"),
        ("time", "t", "int", "SECONDS", "Seconds to wait before it is killed (default 10; -1: for ever)"),
        ("timeout", "", "alias", "time", ""),
    ), True, 1, -1, ""),
    "rm": ("rm", "rm [OPTIONS] CONTAINER [CONTAINER...]", "Remove containers", (
        ("force", "f", "bool", "", "Kill a running container first"),
        ("volumes", "v", "bool", "", "Remove its anonymous volumes"),
    ), True, 1, -1, ""),
    "rmi": ("rmi", "rmi [OPTIONS] IMAGE [IMAGE...]", "Remove images", (
        ("force", "f", "bool", "", "Remove even if containers use it, and all its tags"),
        ("no-prune", "", "bool", "", "Leave the content to a later orlop gc"),
    ), True, 1, -1, ""),
    "run": ("run", "run [OPTIONS] IMAGE [COMMAND] [ARG...]", "Create and run a new container from an image", _RUN_FLAGS, False, 1, -1,
        "orlop run --rm -it docker.io/library/alpine sh\n  orlop run --rm docker.io/library/alpine echo hello\n  orlop run -d --name web -e MODE=prod my/web"),
    "save": ("save", "save [OPTIONS] IMAGE [IMAGE...]", "Save images to an archive", (
        ("format", "", "string", "FORMAT", "docker-archive (default; also readable as OCI), oci-archive or oci-dir"),
        ("output", "o", "string", "PATH", "Write to this file or directory, not to standard output"),
        _PLATFORM,
        ("quiet", "q", "bool", "", "Do not print progress"),
    ), True, 1, -1, ""),
    "start": ("start", "start [OPTIONS] CONTAINER [CONTAINER...]", "Start stopped containers", (
        ("attach", "a", "bool", "", "Attach standard output and error, forward signals"),
        _DETACH_KEYS,
        ("interactive", "i", "bool", "", "Attach standard input"),
    ), True, 1, -1, ""),
    "stats": ("stats", "stats [OPTIONS] [CONTAINER...]", "Show what containers use, again and again", (
        ("all", "a", "bool", "", "Show all containers (default: those that run)"),
        _FORMAT_LONG,
        ("no-stream", "", "bool", "", "Print once"),
        ("no-trunc", "", "bool", "", "Do not shorten IDs"),
    ), True, 0, -1, ""),
    "stop": ("stop", "stop [OPTIONS] CONTAINER [CONTAINER...]", "Stop running containers", (
        ("signal", "s", "string", "SIGNAL", "Signal to send first"),
        ("time", "t", "int", "SECONDS", "Seconds to wait before it is killed (default 10; -1: for ever)"),
        ("timeout", "", "alias", "time", ""),
    ), True, 1, -1, ""),
    "system_boot": ("system_boot", "system boot", "Start what should run after a reboot", (), True, 0, 0, ""),
    "tag": ("tag", "tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", "Give an image a second name", (), True, 2, 2, ""),
    "top": ("top", "top CONTAINER", "Show the processes of a container", (), True, 1, 1, ""),
    "unpause": ("unpause", "unpause CONTAINER [CONTAINER...]", "Let paused containers go on", (), True, 1, -1, ""),
    "update": ("update", "update [OPTIONS] CONTAINER [CONTAINER...]", "Change limits of containers", tuple(
        flag for flag in _CREATE_FLAGS if flag[0] in _UPDATABLE
    ), True, 1, -1, ""),
    "version": ("version", "version [OPTIONS]", "Print version information", (_FORMAT,), True, 0, 0, ""),
    "volume_create": ("volume_create", "volume create [OPTIONS] [VOLUME]", "Create a volume", (
        ("driver", "d", "string", "NAME", "Volume driver: local (default)"),
        ("label", "", "list", "KEY[=VALUE]", "Set a label"),
        ("opt", "o", "list", "KEY=VALUE", "Option of the driver (type=none, o=bind, device=/PATH)"),
    ), True, 0, 1, ""),
    "volume_inspect": ("volume_inspect", "volume inspect [OPTIONS] VOLUME [VOLUME...]", "Display detailed information on volumes", (
        _FORMAT,
        ("size", "s", "bool", "", "Add the size"),
    ), True, 1, -1, ""),
    "volume_ls": ("volume_ls", "volume ls [OPTIONS]", "List volumes", (
        ("filter", "f", "list", "FILTER", "Filter: dangling=BOOL, driver=NAME, label=KEY[=VALUE], name=PATTERN"),
        _FORMAT_LONG,
        ("quiet", "q", "bool", "", "Print only names"),
        ("size", "s", "bool", "", "Show sizes"),
    ), True, 0, 0, ""),
    "volume_prune": ("volume_prune", "volume prune [OPTIONS]", "Remove anonymous volumes that no container uses", (
        ("all", "a", "bool", "", "Remove named volumes that no container uses, too"),
        ("filter", "", "list", "FILTER", "Filter: label=KEY[=VALUE], label!=KEY[=VALUE]"),
        ("force", "f", "bool", "", "Do not ask"),
    ), True, 0, 0, ""),
    "volume_rm": ("volume_rm", "volume rm [OPTIONS] VOLUME [VOLUME...]", "Remove volumes", (
        ("force", "f", "bool", "", "A volume that is not there is no error"),
    ), True, 1, -1, ""),
    "wait": ("wait", "wait CONTAINER [CONTAINER...]", "Wait until containers stop, then print their exit codes", (), True, 1, -1, ""),
    "_clean": ("_clean", "_clean ID", "", (), True, 1, 1, ""),
}  # fmt: skip

GROUPS = {
    "container": ("Manage containers", {
        "create": "create", "exec": "exec", "inspect": "inspect --type container", "kill": "kill", "logs": "logs", "ls": "ps", "list": "ps", "pause": "pause", "port": "port", "rename": "rename", "restart": "restart",
        "ps": "ps", "rm": "rm", "run": "run", "start": "start", "stats": "stats", "stop": "stop", "top": "top", "unpause": "unpause", "update": "update", "wait": "wait",
    }),
    "image": ("Manage images", {
        "import": "import", "inspect": "inspect --type image", "load": "load", "ls": "images", "list": "images", "pull": "pull",
        "push": "push", "rm": "rmi", "save": "save", "tag": "tag",
    }),
    "network": ("Manage networks", {
        "create": "network_create", "inspect": "network_inspect", "list": "network_ls", "ls": "network_ls",
        "prune": "network_prune", "remove": "network_rm", "rm": "network_rm",
    }),
    "volume": ("Manage volumes", {
        "create": "volume_create", "inspect": "volume_inspect", "list": "volume_ls", "ls": "volume_ls",
        "prune": "volume_prune", "remove": "volume_rm", "rm": "volume_rm",
    }),
    "system": ("Manage the engine", {"boot": "system_boot", "gc": "gc", "info": "info"}),
}  # fmt: skip
"""`orlop container ls` and the like: other words for the same commands, with the flags that they imply. A command with
"_" in its name can be typed in its group only.
"""

SECTIONS = (
    (
        "Containers",
        (
            "run",
            "create",
            "start",
            "stop",
            "restart",
            "kill",
            "pause",
            "unpause",
            "rm",
            "ps",
            "logs",
            "port",
            "exec",
            "top",
            "stats",
            "wait",
            "rename",
            "update",
            "inspect",
        ),
    ),
    ("Images", ("pull", "push", "images", "rmi", "tag", "save", "load", "import")),
    ("Registries", ("login", "logout")),
    ("System", ("version", "info", "gc")),
)
