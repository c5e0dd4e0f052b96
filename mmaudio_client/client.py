"""The client for programs without an event loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

import httpx

from mmaudio_client.api_keys import ApiKeys
from mmaudio_client.batches import Batches
from mmaudio_client.blocking import blocking, blocking_iterator, run_blocking
from mmaudio_client.calls.client_calls import ClientCalls
from mmaudio_client.calls.jobs import MAX_PAGE
from mmaudio_client.connection import address_and_key, open_http
from mmaudio_client.driver import BlockingDriver
from mmaudio_client.presets import Presets
from mmaudio_client.transport import Transport
from mmaudio_client.triggers import Triggers
from mmaudio_client.webhooks import Webhooks

__all__ = ["MAX_PAGE", "Client"]


class Client:
    """A connection to one platform; a context manager. May be shared by threads.

    Args:
        base_url: address of the API; default: `MMAUDIO_API_URL`, else http://127.0.0.1:8000.
        api_key: sent as a bearer token to that server, and to no other; default: `MMAUDIO_API_KEY`, else
            the one that `mmaudio login` stored for this server; "": none.
        timeout_s: longest time for one answer, not counting what a wait adds.
        patience_s: how long each call waits out an outage of the server (a restart, a gateway's 502 to 504, a lost
            connection), with growing pauses; 0: not at all. Default: 180, but only some seconds as long as the server
            has never answered this client, because its address may be wrong.
        wait_for_server: False: raise at once when no connection can be made and the server has never answered.
        on_outage: called with a sentence when an outage begins; default: the sentence is logged as a warning.
        transport: replaces the network in tests.
        sleep, clock: replace waiting and time in tests.

    Raises:
        InvalidAddressError: `base_url` is not an http(s) URL, or ends in `/v1`.
        InvalidKeyError: `api_key` is not printable ASCII.
        ValueError: `patience_s` is out of range.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        patience_s: float | None = None,
        wait_for_server: bool = True,
        on_outage: Callable[[str], None] | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        address, key = address_and_key(base_url, api_key)
        http = open_http(address, api_key=key, timeout_s=timeout_s, transport=transport)
        self._transport = Transport(
            BlockingDriver(http, sleep),
            clock=clock,
            patience_s=patience_s,
            wait_for_server=wait_for_server,
            on_outage=on_outage,
        )
        self._calls = ClientCalls(self._transport, timeout_s)
        self.batches = Batches(self._calls.batches)
        self.keys = ApiKeys(self._calls.keys)
        self.presets = Presets(self._calls.presets)
        self.triggers = Triggers(self._calls.triggers)
        self.webhooks = Webhooks(self._calls.webhooks)

    @property
    def base_url(self) -> str:
        """The server's address."""
        return self._calls.base_url

    @property
    def on_outage(self) -> Callable[[str], None] | None:
        """What is called with a sentence when an outage begins; None: it is logged as a warning."""
        return self._calls.on_outage

    @on_outage.setter
    def on_outage(self, tell: Callable[[str], None] | None) -> None:
        self._calls.on_outage = tell

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        run_blocking(self._transport.driver.close())

    generate = blocking(ClientCalls.generate)
    submit = blocking(ClientCalls.submit)
    upload = blocking(ClientCalls.upload)
    delete_upload = blocking(ClientCalls.delete_upload)
    get = blocking(ClientCalls.get)
    resolve_id = blocking(ClientCalls.resolve_id)
    watch = blocking_iterator(ClientCalls.watch)
    watch_all = blocking_iterator(ClientCalls.watch_all)
    wait = blocking(ClientCalls.wait)
    cancel = blocking(ClientCalls.cancel)
    retry = blocking(ClientCalls.retry)
    retry_all = blocking(ClientCalls.retry_all)
    delete = blocking(ClientCalls.delete)
    counts = blocking(ClientCalls.counts)
    list = blocking_iterator(ClientCalls.list)
    page = blocking(ClientCalls.page)
    download = blocking(ClientCalls.download)
    download_archive = blocking(ClientCalls.download_archive)
    result_stem = blocking(ClientCalls.result_stem)
    events = blocking_iterator(ClientCalls.events)
    stored_events = blocking_iterator(ClientCalls.stored_events)
    all_events = blocking_iterator(ClientCalls.all_events)
    variants = blocking(ClientCalls.variants)
    request = blocking(ClientCalls.request)
