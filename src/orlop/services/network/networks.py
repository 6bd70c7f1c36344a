"""The networks of one root and what containers have on them: the room's one public entry, which the engine calls.

The store's rows say what should be; this room makes the kernel agree, and can do so again after any crash: a row is
written before the first thing it stands for is made, and deleted after the last has gone. All changes of one root
happen under one flock (STATE/network.lock), so a caller that dies half way never leaves two at work.
"""

from __future__ import annotations

from ...base import errors, faults, fsio
from ...base.cancel import NEVER
from ...base.kernel import netns, rtnetlink
from ...stores.networks.api import Endpoint, Network, PortMapping
from . import addresses, bridge, endpoints, machine
from . import ports as _ports
from .definition import DEFAULT_NAME, blank, define
from .ground import Ground

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ...base.cancel import Cancel
    from ...base.kernel.netlink import Netlink
    from ...stores.networks.api import NetworkStore
    from .ground import Up

    Strings = list[str]  # inside the class, `list` is its method


class Attached(Endpoint):
    """An endpoint whose links are there, with what its container must know.

    bridge: the host's bridge. prefix, prefix6: of its addresses. gateway, gateway6: "" on an internal network.
    nameserver: address of the network's own resolver, "" when it has none. mtu: bytes.
    """

    network_name: str = ""
    bridge: str = ""
    prefix: int = 0
    prefix6: int = 0
    gateway: str = ""
    gateway6: str = ""
    nameserver: str = ""
    mtu: int = 0


class Networks:
    """The networks of one root. Safe to use from any thread and process at once.

    root_id: 12 hex digits. state_dir: STATE (gone after a reboot). machine_dir: shared by all roots of the machine.
    helper_argv: starts `orlop.services.network.helper:main` (base/selfexec). ipv6: whether networks that do not say
    get IPv6 where the kernel has it.

    Methods raise Unavailable, FailedPrecondition (no nft, no rights, a taken port, subnet or address),
    ResourceExhausted (no subnet, no address), Cancelled; OSErrors of the kernel come as errors of ours.
    """

    def __init__(
        self,
        store: NetworkStore,
        *,
        root_id: str,
        state_dir: str,
        machine_dir: str = "/run/orlop-net",
        helper_argv: Sequence[str],
        ipv6: bool = True,
    ) -> None:
        self._store = store
        self._state = state_dir
        self._ipv6 = ipv6
        self._ground = Ground(store, root_id, state_dir, machine_dir, helper_argv)

    @property
    def notes(self) -> Strings:
        """What was changed on the host, and what of the host is in the way; sentences for people. Grows."""
        return self._ground.notes

    # Networks

    def default(self) -> Network:
        """The default bridge network (its name is "bridge"); recorded when it is first asked for."""
        try:
            return self._store.resolve(DEFAULT_NAME)
        except errors.NotFound:
            pass
        try:
            return self._store.create(blank(DEFAULT_NAME, self._ground.root_id, ipv6=self._ipv6))
        except errors.AlreadyExists:  # by another process, just now
            return self._store.resolve(DEFAULT_NAME)

    def create(
        self,
        name: str,
        *,
        driver: str = "bridge",
        subnet: str = "",
        gateway: str = "",
        ip_range: str = "",
        subnet6: str = "",
        gateway6: str = "",
        ipv6: bool | None = None,
        internal: bool = False,
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        cancel: Cancel = NEVER,
    ) -> Network:
        """Make a network and its bridge. Subnets that are not given are chosen, apart from what the machine uses.

        AlreadyExists for a name that is taken; InvalidArgument for a bad name, subnet, gateway or range;
        FailedPrecondition when the subnet overlaps what the machine uses.
        """
        network = define(
            name,
            self._ground.root_id,
            driver=driver,
            subnet=subnet,
            gateway=gateway,
            ip_range=ip_range,
            subnet6=subnet6,
            gateway6=gateway6,
            ipv6=self._ipv6 if ipv6 is None else ipv6,
            internal=internal,
            options=options or {},
            labels=labels or {},
        )
        with self._locked(cancel), rtnetlink.open_route() as kernel:
            bridge.mtu(kernel, network)  # a bad option is refused before anything is made
            network = self._store.create(network)
            faults.point("network.create.recorded")
            try:
                return self._ground.ensure(network, kernel, cancel).network
            except BaseException:
                self._store.delete(network.id)
                self._ground.take_down(network.id, kernel, cancel)
                raise

    def resolve(self, text: str) -> Network:
        """By name, id or prefix of an id; "default" is the default network. NotFound."""
        return self.default() if text in (DEFAULT_NAME, "default") else self._store.resolve(text)

    def list(self) -> Sequence[Network]:
        """Oldest first, the default network among them."""
        self.default()
        return self._store.list()

    def inspect(self, text: str) -> tuple[Network, str, Sequence[Endpoint]]:
        """(network, its bridge's name or "" while it has none, its endpoints). NotFound."""
        network = self.resolve(text)
        claim = machine.find(self._ground.machine_dir, self._ground.root_id, network.id)
        return network, claim.bridge if claim else "", self._store.endpoints(network=network.id)

    def endpoints(self, *, container_id: str = "") -> Sequence[Endpoint]:
        """Of one container, or all."""
        return self._store.endpoints(container=container_id)

    def remove(self, text: str, *, cancel: Cancel = NEVER) -> Network:
        """Remove a network. FailedPrecondition for the default one and while it has endpoints; NotFound."""
        network = self.resolve(text)
        if network.name == DEFAULT_NAME:
            raise errors.FailedPrecondition("the default network cannot be removed")
        with self._locked(cancel), rtnetlink.open_route() as kernel:
            self._store.delete(network.id)
            faults.point("network.remove.unrecorded")
            self._ground.take_down(network.id, kernel, cancel)
        return network

    def prune(self, *, cancel: Cancel = NEVER) -> Sequence[Network]:
        """Remove all user-defined networks without endpoints; those removed."""
        removed = []
        for network in self._store.list():
            if network.name != DEFAULT_NAME and not self._store.endpoints(network=network.id):
                try:
                    removed.append(self.remove(network.id, cancel=cancel))
                except (errors.FailedPrecondition, errors.NotFound):
                    pass  # somebody was quicker
        return removed

    # Containers

    def netns_path(self, container_id: str) -> str:
        """Where a container's network namespace is, or will be, mounted."""
        if not container_id or "/" in container_id or container_id in (".", "..") or "\0" in container_id:
            raise errors.InvalidArgument(f"invalid container id {container_id!r}")
        return f"{self._state}/netns/{container_id}"

    def attach(
        self,
        network: Network | str,
        container_id: str,
        *,
        name: str = "",
        ports: Sequence[PortMapping] = (),
        ip: str = "",
        mac: str = "",
        aliases: Sequence[str] = (),
        servers: Sequence[str] = (),
        cancel: Cancel = NEVER,
    ) -> Attached:
        """Give a container its place on a network; its network namespace is made when it is missing.

        A container that has an endpoint there keeps its address (unless `ip` asks for another) and gets the ports given
        now; its links are made anew. The first network of a container gives its default route.

        name, aliases: what others on a user-defined network call it. ip: a static IPv4 address. mac: of its interface.
        servers: the resolvers that a user-defined network's own resolver asks, when this container is its first (none:
        the host's). Returns the endpoint with the ports as bound. What fails leaves nothing behind.
        """
        path = self.netns_path(container_id)
        mac = addresses.check_mac(mac) if mac else ""
        ground = self._ground
        with self._locked(cancel), rtnetlink.open_route() as kernel:
            up = ground.ensure(network if isinstance(network, Network) else self.resolve(network), kernel, cancel)
            here = up.network
            have = self._store.endpoints(container=container_id)
            others = any(each.network != here.id for each in have)
            endpoint = next((each for each in have if each.network == here.id), None)
            if endpoint is not None:
                endpoint = self._again(here, endpoint, kernel, ip=ip, mac=mac)
            kept = endpoint is not None
            bound = _ports.bind(ports, lambda mapping: endpoints.holder_of(ground, mapping))
            mapped = tuple(each.mapping for each in bound)
            try:
                if endpoint is None:
                    draft = Endpoint(container_id, here.id, name, tuple(aliases), path, mac=mac, ports=mapped)
                    endpoint = endpoints.record(ground, here, draft, ip=ip)
                else:
                    endpoint = endpoint.replace(ports=mapped, name=name, aliases=tuple(aliases))
                    self._store.update_endpoint(endpoint)
                faults.point("network.attach.recorded")
                try:
                    cancel.check()
                    endpoints.connect(ground, up, endpoint, kernel, bound, default_route=not others, servers=servers)
                except BaseException:
                    endpoints.disconnect(ground, endpoint, kernel)
                    if not others:
                        netns.remove(path)
                    if kept:
                        self._store.update_endpoint(endpoint.replace(ports=()))
                    else:
                        self._store.delete_endpoint(container_id, here.id)
                    raise
            except OSError as error:
                raise errors.from_os(error, f"attach container {container_id[:12]} to network {here.name}") from error
            finally:
                _ports.close(bound)
        return _attached(endpoint, up)

    def _again(self, network: Network, endpoint: Endpoint, kernel: Netlink, *, ip: str, mac: str) -> Endpoint | None:
        """Clear what an endpoint has, for making it anew; None when it needs another address, its row then is gone."""
        endpoints.disconnect(self._ground, endpoint, kernel)
        renewed = endpoints.renewed(network, endpoint, ip=ip, mac=mac)
        if renewed is None:
            self._store.delete_endpoint(endpoint.container, endpoint.network)
        return renewed

    def detach(self, container_id: str, *, keep_address: bool = False, cancel: Cancel = NEVER) -> None:
        """Take all a container has on its networks away, its network namespace too. Idempotent.

        To be called when its processes have ended: the links go with the namespace, in the kernel's own time.
        keep_address: the endpoints' rows stay, so that the next `attach` finds the same address.
        """
        path = self.netns_path(container_id)
        with self._locked(cancel):
            rows = self._store.endpoints(container=container_id)
            if rows:
                with rtnetlink.open_route() as kernel:
                    for endpoint in rows:
                        endpoints.disconnect(self._ground, endpoint, kernel, links=False)
                        faults.point("network.detach.disconnected")
            try:
                netns.remove(path)
            except OSError as error:
                raise errors.from_os(error, f"remove the network namespace of container {container_id[:12]}") from error
            faults.point("network.detach.removed")
            for endpoint in rows:
                if keep_address:
                    self._store.update_endpoint(endpoint.replace(ports=()))
                else:
                    self._store.delete_endpoint(container_id, endpoint.network)

    def disconnect(self, network: Network | str, container_id: str, *, cancel: Cancel = NEVER) -> None:
        """Take a running container off one network. NotFound when it is not on it."""
        here = network if isinstance(network, Network) else self.resolve(network)
        with self._locked(cancel), rtnetlink.open_route() as kernel:
            found = [each for each in self._store.endpoints(container=container_id) if each.network == here.id]
            if not found:
                raise errors.NotFound(f"container {container_id[:12]} is not on network {here.name}")
            endpoints.disconnect(self._ground, found[0], kernel)
            self._store.delete_endpoint(container_id, here.id)

    def isolate(self, container_id: str, *, cancel: Cancel = NEVER) -> str:
        """Make a container's namespace with nothing but a loopback link in it; its path. `detach` removes it."""
        path = self.netns_path(container_id)
        with self._locked(cancel):
            try:
                with endpoints.namespace(path) as inside:
                    inside.kernel.run(rtnetlink.change_link(1, up=True))
            except OSError as error:
                raise errors.from_os(error, f"make the network namespace of container {container_id[:12]}") from error
        return path

    def rename(self, container_id: str, name: str, *, cancel: Cancel = NEVER) -> None:
        """Have the resolvers of its networks know a container by another name."""
        with self._locked(cancel):
            for endpoint in self._store.endpoints(container=container_id):
                renamed = endpoint.replace(name=name)
                self._store.update_endpoint(renamed)
                helper = self._ground.helper(endpoint.network)
                if endpoints.is_named(self._store.resolve(endpoint.network)) and helper.is_running():
                    helper.add(renamed, (), names=endpoints.known_names(renamed))

    # Upkeep

    def repair(self, *, cancel: Cancel = NEVER) -> Strings:
        """Make again what somebody took away: bridges, rules, links, helpers. Returns what could not be put right."""
        from . import upkeep

        with self._locked(cancel), rtnetlink.open_route() as kernel:
            return upkeep.repair(self._ground, kernel, cancel)

    def reconcile(self, living: Collection[str], *, cancel: Cancel = NEVER) -> Strings:
        """Remove what belongs to containers that are no more, or never came to be; the ids that were cleared.

        living: the ids of all containers of the root that exist (running or not), in every namespace.
        """
        from . import upkeep

        gone = sorted({each.container for each in self._store.endpoints()} - set(living))
        for container in gone:
            self.detach(container, cancel=cancel)
        with self._locked(cancel), rtnetlink.open_route() as kernel:
            return sorted({*gone, *upkeep.sweep(self._ground, living, kernel, cancel)})

    def retire(self, *, cancel: Cancel = NEVER) -> None:
        """Give back what networks without endpoints hold of the machine: bridges, rules, subnets. They come back when
        they are needed.
        """
        from . import upkeep

        with self._locked(cancel), rtnetlink.open_route() as kernel:
            upkeep.retire(self._ground, kernel, cancel)

    def _locked(self, cancel: Cancel) -> fsio.Lock:
        path = f"{self._state}/network.lock"
        try:
            return fsio.lock(path, cancel=cancel)
        except FileNotFoundError:
            fsio.make_dirs(self._state, 0o700)
            return fsio.lock(path, cancel=cancel)


def _attached(endpoint: Endpoint, up: Up) -> Attached:
    network = up.network
    return Attached(
        **endpoint.as_dict(),
        network_name=network.name,
        bridge=up.claim.bridge,
        prefix=addresses.parse(network.subnet).prefix,
        prefix6=addresses.parse(network.subnet6).prefix if network.subnet6 else 0,
        gateway="" if network.internal else network.gateway,
        gateway6="" if network.internal else network.gateway6,
        nameserver=network.gateway if endpoints.is_named(network) else "",
        mtu=up.link.mtu,
    )
