"""The files of /etc that tell a Pod its name, its neighbours and its resolver.

Their text is that of Kubernetes (kubelet's managed hosts file; dnsPolicy Default), made by pure functions
and written once per Pod; containers get them as bind mounts. Sources: hosts(5), hostname(5), resolv.conf(5),
Kubernetes, "Adding entries to Pod /etc/hosts" and "DNS for Services and Pods".
"""

from __future__ import annotations

import contextlib
import errno
import os

from pyrun.kernel.operation import Operation, Results

HOSTS_HEADER = "# pyrun-managed hosts file.\n"
HOST_NETWORK_HEADER = "# pyrun-managed hosts file (host network).\n"
LOCAL_NAMES = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "fe00::0\tip6-mcastprefix\n"
    "fe00::1\tip6-allnodes\n"
    "fe00::2\tip6-allrouters\n"
)
NO_RESOLVER = "# the resolvers of the host ({}) cannot be reached from a Pod's network\n"

HOST_HOSTS = "/etc/hosts"
HOST_RESOLV_CONF = "/etc/resolv.conf"
# systemd-resolved keeps here the servers that it asks itself; /etc/resolv.conf names only its stub.
UPSTREAM_RESOLV_CONF = "/run/systemd/resolve/resolv.conf"
MOST_NAMESERVERS = 3  # MAXNS of resolv.h, and what Kubernetes allows

FILES = ("hosts", "hostname", "resolv.conf")


def pod_hosts(address: str, hostname: str, fqdn: str = "") -> str:
    """Return /etc/hosts of a Pod with an address of its own."""
    names = f"{fqdn}\t{hostname}" if fqdn and fqdn != hostname else hostname
    return f"{HOSTS_HEADER}{LOCAL_NAMES}{address}\t{names}\n"


def host_network_hosts(host_file: str) -> str:
    """Return /etc/hosts of a Pod on the host's network: the host's own file, under another header."""
    return HOST_NETWORK_HEADER + host_file


def pod_resolv_conf(host_file: str, upstream_file: str) -> str:
    """Return /etc/resolv.conf of a Pod with a network of its own, from the host's file.

    Of the name servers only those are kept that a Pod can reach: IPv4, and not the Pod's own loopback.
    When none is left, those of `upstream_file` are taken; search domains and options stay. When there is
    still none, a comment says so: a Pod is never sent to a resolver that the host does not use.
    """
    servers, search, options = _parse(host_file)
    reachable = [server for server in servers if _is_reachable(server)]
    if not reachable:
        reachable = [server for server in _parse(upstream_file)[0] if _is_reachable(server)]
    lines = [f"search {' '.join(search)}\n"] if search else []
    lines += [f"nameserver {server}\n" for server in reachable[:MOST_NAMESERVERS]]
    if not reachable:
        lines.append(NO_RESOLVER.format(", ".join(servers) or "none"))
    if options:
        lines.append(f"options {' '.join(options)}\n")
    return "".join(lines)


def _parse(text: str) -> tuple[list[str], list[str], list[str]]:
    """Return (name servers, search domains, options); of several search lines the last one counts."""
    servers: list[str] = []
    search: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        word, *values = line.split() or [""]
        if word == "nameserver" and values:
            servers.append(values[0])
        elif word in ("search", "domain"):
            search = [value for value in values if value != "."]
        elif word == "options":
            options += [value for value in values if value not in options]
    return servers, search, options


def _is_reachable(server: str) -> bool:
    parts = server.split(".")
    if len(parts) != 4 or not all(part.isdecimal() and int(part) < 256 for part in parts):
        return False
    return parts[0] not in ("127", "0")


class WriteEtcFiles(Operation, frozen=True, tag=True):
    """Write hosts, hostname and resolv.conf of a Pod into `directory`, whose parent exists.

    A Pod with a network of its own needs the result `address`. With `host_network` the Pod shares the
    host's names: the files are the host's own, copied once, and `hostname` is the host's. `fqdn` is the
    full name beside `hostname` in hosts, when there is one.
    """

    directory: str
    hostname: str
    host_network: bool = False
    fqdn: str = ""

    def describe(self) -> str:
        files = f"{self.directory}/{{{','.join(FILES)}}}"
        if self.host_network:
            return f"write {files}: copies of the host's"
        return f'write {files}: "<address> {self.hostname}", the resolvers of the host'

    def apply(self, results: Results) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.directory, 0o755)
        host_resolv_conf = _read(HOST_RESOLV_CONF)
        if self.host_network:
            hosts, resolv_conf = host_network_hosts(_read(HOST_HOSTS)), host_resolv_conf
        else:
            hosts = pod_hosts(results.text("address"), self.hostname, self.fqdn)
            resolv_conf = pod_resolv_conf(host_resolv_conf, _read(UPSTREAM_RESOLV_CONF))
        for name, text in zip(FILES, (hosts, f"{self.hostname}\n", resolv_conf), strict=True):
            _write(f"{self.directory}/{name}", text)

    def undo(self) -> None:
        for name in FILES:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.unlink(f"{self.directory}/{name}")
        try:
            os.rmdir(self.directory)
        except OSError as error:
            # What others have put there is theirs; the Pod's directory goes as a whole later.
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.ENOTDIR):
                raise


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _write(path: str, text: str) -> None:
    # The mode is set on the descriptor: a umask of 077 must not hide the file from the container's user.
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(text)
