"""Proxies that the environment names (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY), named in what fails by them.

Requests to this machine itself go through no proxy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from urllib.request import getproxies_environment

import httpx
from msgspec import Struct

_SCHEMES = ("http", "https", "socks5", "socks5h")
_THROUGH = "trackbook.proxy"
"""Key of an answer's extension: the words about the proxy that the request went through."""


class ProxyUnusable(httpx.ConnectError):
    """A variable names a proxy that no request can go through."""


class Proxy(Struct, frozen=True):
    """A proxy by the variable that names it. `address` has no password; `fault` says why it can't be used."""

    variable: str
    url: str
    address: str = ""
    fault: str = ""

    @property
    def words(self) -> str:
        """Which proxy it is, and what names it."""
        return f"the proxy {self.address} of the variable {self.variable}"


def proxy_for(url: httpx.URL) -> Proxy | None:
    """Return the proxy that requests to an address go through, None where they go there directly."""
    if _is_here(url.host):
        return None
    found = getproxies_environment()
    if any(_matches(entry.strip(), url) for entry in found.get("no", "").split(",")):
        return None
    kind = next((kind for kind in (url.scheme, "all") if found.get(kind)), None)
    return _read(_variable(kind, os.environ), found[kind]) if kind else None


def through(answer: httpx.Response) -> str:
    """Return in words the proxy that an answer came through, '' where it came directly."""
    return str(answer.extensions.get(_THROUGH, ""))


class Transport(httpx.AsyncBaseTransport):
    """Sends each request directly or through the proxy that the environment names for it."""

    def __init__(self, *, verify: bool, limits: httpx.Limits) -> None:
        self._context = httpx.create_ssl_context(verify=verify)
        self._limits = limits
        self._direct = httpx.AsyncHTTPTransport(verify=self._context, limits=limits)
        self._proxied: dict[str, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; an error names the proxy. Raises httpx.TransportError."""
        proxy = proxy_for(request.url)
        if proxy is None:
            return await self._direct.handle_async_request(request)
        if proxy.fault:
            raise ProxyUnusable(f"the variable {proxy.variable} {proxy.fault}")
        try:
            answer = await self._through(proxy).handle_async_request(request)
        except httpx.TransportError as lost:
            raise type(lost)(f"{str(lost) or type(lost).__name__} (through {proxy.words})") from lost
        answer.extensions[_THROUGH] = proxy.words
        return answer

    def _through(self, proxy: Proxy) -> httpx.AsyncHTTPTransport:
        if proxy.url not in self._proxied:
            self._proxied[proxy.url] = httpx.AsyncHTTPTransport(
                verify=self._context, limits=self._limits, proxy=proxy.url
            )
        return self._proxied[proxy.url]

    async def aclose(self) -> None:
        """Close the connections."""
        for transport in (self._direct, *self._proxied.values()):
            await transport.aclose()


def _is_here(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _matches(entry: str, url: httpx.URL) -> bool:
    """Whether an entry of NO_PROXY (a name, one with a port, a network, or `*`) is about an address."""
    if entry == "*":
        return True
    try:
        return ip_address(url.host) in ip_network(entry, strict=False)
    except ValueError:
        name = entry.removesuffix(f":{url.port}").lower().removeprefix("*").removeprefix(".")
        return bool(name) and (url.host == name or url.host.endswith(f".{name}"))


def _variable(kind: str, environment: Mapping[str, str]) -> str:
    """Return the name of the variable as it is set; the lower-case one counts where both are."""
    name = f"{kind}_proxy"
    alike = [each for each in environment if each.lower() == name and environment[each]]
    return name if name in alike or not alike else alike[0]


def _read(variable: str, text: str) -> Proxy:
    """Return the proxy that a variable's value names, without the value, which may have a password in it."""
    whole = text if "://" in text else f"http://{text}"
    try:
        url = httpx.URL(whole)
    except httpx.InvalidURL:
        url = httpx.URL()
    if not url.host or whole.rstrip("/").endswith(":"):
        return Proxy(variable, "", fault="is not the address of a proxy: it looks like http://HOST:PORT")
    if url.scheme not in _SCHEMES:
        kind = f"names a proxy of the kind {url.scheme}: http, https and socks5 are taken"
        return Proxy(variable, "", fault=kind)
    if url.scheme.startswith("socks") and find_spec("socksio") is None:
        missing = "names a SOCKS proxy, for which the package socksio is not installed: `pip install socksio`"
        return Proxy(variable, "", fault=missing)
    return Proxy(variable, whole, f"{url.scheme}://{url.netloc.decode('ascii')}")
