#!/usr/bin/env python3
"""Checks the crates that rbuild is made of against deny.toml: licences, sources, banned crates, and which
of them run a build script. The same as `cargo deny check bans licenses sources`, for machines without it;
and that nothing a build script is made of can speak to a network, which cargo-deny does not ask.

usage: scripts/dependencies.py     (Python 3.11; the crates have to be downloaded)
"""

import json
import re
import subprocess
import sys
import tomllib

# What a build script would fetch with.
NETWORK = {
    "attohttpc", "curl", "curl-sys", "git2", "gix", "hyper", "isahc", "libgit2-sys", "minreq", "reqwest",
    "surf", "ureq",
}


def is_allowed(expression, allowed):
    """Evaluates an SPDX expression; the `/` of old manifests is an OR."""
    expression = expression.replace("/", " OR ")
    tokens = re.findall(r"\(|\)|[^\s()]+", expression)

    def either():
        value = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            value = both() or value
        return value

    def both():
        value = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            value = one() and value
        return value

    def one():
        name = tokens.pop(0)
        if name == "(":
            value = either()
            tokens.pop(0)
            return value
        if tokens and tokens[0] == "WITH":
            tokens.pop(0)
            name += " WITH " + tokens.pop(0)
        return name in allowed

    return either()


def packages(targets):
    """The packages for all targets, by id, and what build scripts depend on."""
    found, built_with = {}, {}
    for target in targets:
        text = subprocess.run(
            ["cargo", "metadata", "--locked", "--format-version=1", "--filter-platform", target],
            check=True, stdout=subprocess.PIPE,
        ).stdout
        metadata = json.loads(text)
        nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
        for package in metadata["packages"]:
            if package["id"] in nodes:
                found[package["id"]] = package
        waiting = [
            dependency["pkg"]
            for node in nodes.values()
            for dependency in node["deps"]
            if any(kind["kind"] == "build" for kind in dependency["dep_kinds"])
        ]
        while waiting:
            identity = waiting.pop()
            if identity not in built_with:
                built_with[identity] = found[identity]["name"]
                waiting += [
                    dependency["pkg"]
                    for dependency in nodes[identity]["deps"]
                    if any(kind["kind"] is None for kind in dependency["dep_kinds"])
                ]
    return found, built_with


def main():
    with open("deny.toml", "rb") as file:
        rules = tomllib.load(file)
    licences = set(rules["licenses"]["allow"])
    banned = {entry["crate"] for entry in rules["bans"]["deny"]}
    scripts = set(rules["bans"]["build"]["allow-build-scripts"])
    wrong, seen = [], set()
    found, built_with = packages(rules["graph"]["targets"])
    for package in found.values():
        name = package["name"]
        what = f"{name} {package['version']}"
        if not package["source"]:
            if package["source"] is None and name != "rbuild":
                wrong.append(f"{what} comes from a directory")
        elif package["source"] != "registry+https://github.com/rust-lang/crates.io-index":
            wrong.append(f"{what} comes from {package['source']}")
        if name in banned:
            wrong.append(f"{what} is banned")
        if not package["license"] or not is_allowed(package["license"], licences):
            wrong.append(f"{what} has the licence {package['license']}")
        if any("custom-build" in target["kind"] for target in package["targets"]):
            seen.add(name)
            if name not in scripts:
                wrong.append(f"{what} has a build script that nobody looked at")
        for dependency in package["dependencies"] if name == "rbuild" else []:
            if dependency["req"] == "*":
                wrong.append(f"{dependency['name']} is wanted in any version")
    wrong += [f"{name} has no build script (any more)" for name in sorted(scripts - seen)]
    wrong += [f"{name} is part of a build script" for name in sorted(NETWORK & set(built_with.values()))]
    print(f"{len(found)} crates, {len(seen)} with a build script, {len(set(built_with))} that those are made of")
    if wrong:
        sys.exit("\n".join(wrong))


main()
