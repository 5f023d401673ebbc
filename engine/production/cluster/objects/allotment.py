"""Addresses and ports that the server hands out to Services."""

from __future__ import annotations

from engine.production.cluster.objects.common import Obj
from engine.production.cluster.objects.store import ObjectStore

_FIRST_NODE_PORT = 30000


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

    def _allot_node_ports(self, spec: Obj) -> None:
        if spec["type"] not in ("NodePort", "LoadBalancer"):
            return
        taken = {
            port.get("nodePort")
            for service in self._store.items("services")
            for port in service["spec"].get("ports") or ()
        }
        candidate = _FIRST_NODE_PORT
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
