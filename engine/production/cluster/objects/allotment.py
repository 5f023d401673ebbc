"""Addresses and ports that the server hands out to Services."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import AddressValueError, IPv4Address, IPv4Network

from engine.production.cluster.objects.common import Obj, key_of
from engine.production.cluster.objects.refusals import FieldError, invalid_value
from engine.production.cluster.objects.store import ObjectStore

_NODE_PORTS = range(30000, 32768)
_RANGE = IPv4Network("10.0.0.0/16")


class Allotment:
    """Cluster addresses from 10.0.0.0/16 and node ports, each used by one Service at a time."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def allot(self, resource: str, obj: Obj) -> None:
        """Give a new Service what it does not bring along itself."""
        if resource != "services" or obj["spec"]["type"] == "ExternalName":
            return
        spec = obj["spec"]
        spec.setdefault("clusterIP", self._free_address())
        spec.setdefault("clusterIPs", [spec["clusterIP"]])
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
        self._allot_node_ports(spec)

    def keep(self, resource: str, live: Obj, new: Obj) -> None:
        """A Service that is replaced without naming its address keeps it."""
        if resource != "services" or new["spec"]["type"] == "ExternalName":
            return
        for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if name in live["spec"] and not new["spec"].get(name):
                new["spec"][name] = live["spec"][name]
        self._allot_node_ports(new["spec"])

    def complaints(self, resource: str, obj: Obj) -> Iterator[FieldError]:
        """What a new or changed Service asks for that cannot be had."""
        if resource != "services" or obj["spec"]["type"] == "ExternalName":
            return
        others = [each for each in self._store.items("services") if key_of(each) != key_of(obj)]
        yield from _address_complaints(obj["spec"], others)
        taken = {
            port["nodePort"]
            for each in others
            for port in each["spec"].get("ports") or ()
            if "nodePort" in port
        }
        for index, port in enumerate(obj["spec"].get("ports") or ()):
            number, path = port.get("nodePort"), f"spec.ports[{index}].nodePort"
            if number in taken:
                yield invalid_value(path, number, "provided port is already allocated")
            elif number and number not in _NODE_PORTS:
                bounds = f"{_NODE_PORTS.start}-{_NODE_PORTS.stop - 1}"
                detail = "provided port is not in the valid range. The range of valid ports is "
                yield invalid_value(path, number, detail + bounds)

    def _allot_node_ports(self, spec: Obj) -> None:
        if spec["type"] not in ("NodePort", "LoadBalancer"):
            return
        taken = {
            port.get("nodePort")
            for service in self._store.items("services")
            for port in service["spec"].get("ports") or ()
        }
        candidate = _NODE_PORTS.start
        for port in spec.get("ports") or ():
            while candidate in taken:
                candidate += 1
            port.setdefault("nodePort", candidate)
            taken.add(port["nodePort"])

    def _free_address(self) -> str:
        taken = {service["spec"].get("clusterIP") for service in self._store.items("services")}
        number = 2
        while (address := f"10.0.{number >> 8}.{number & 255}") in taken:
            number += 1
        return address


def _address_complaints(spec: Obj, others: list[Obj]) -> Iterator[FieldError]:
    """A cluster address is of the cluster's range, and nobody else's."""
    address = spec.get("clusterIP")
    if address in (None, "", "None"):
        return
    try:
        inside = IPv4Address(address) in _RANGE
    except AddressValueError:
        detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
        yield invalid_value("spec.clusterIPs[0]", address, detail)
        return
    why = "" if inside else "the provided network does not match the current range"
    if any(each["spec"].get("clusterIP") == address for each in others):
        why = "provided IP is already allocated"
    if why:
        detail = f"failed to allocate IP {address}: {why}"
        yield invalid_value("spec.clusterIPs", [address], detail)
