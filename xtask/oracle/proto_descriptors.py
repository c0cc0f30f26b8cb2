"""Writes the descriptors of Core ML's messages, as coremltools ships them, to a JSON file.

usage: proto_descriptors.py OUTPUT.json

Facts only: for every message its fields (number, name, label, type, oneof, packed), for every enum its numbers. Of the
schema files only the three that an ML Program needs are taken.
"""

import json
import sys

import coremltools
from coremltools.proto import FeatureTypes_pb2, MIL_pb2, Model_pb2
from google.protobuf import descriptor_pb2

FIELD = descriptor_pb2.FieldDescriptorProto


def field_facts(field, message):
    facts = {
        "name": field.name,
        "label": FIELD.Label.Name(field.label),
        "type": FIELD.Type.Name(field.type),
    }
    if field.type_name:
        facts["type_name"] = field.type_name.lstrip(".")
    if field.HasField("oneof_index"):
        facts["oneof"] = message.oneof_decl[field.oneof_index].name
    if field.options.HasField("packed"):
        facts["packed"] = field.options.packed
    return facts


def collect(prefix, messages, enums, out):
    for enum in enums:
        out["enums"][f"{prefix}.{enum.name}"] = {str(v.number): v.name for v in enum.value}
    for message in messages:
        name = f"{prefix}.{message.name}"
        out["messages"][name] = {
            "map_entry": message.options.map_entry,
            "fields": {str(f.number): field_facts(f, message) for f in message.field},
        }
        collect(name, message.nested_type, message.enum_type, out)


def main():
    out = {"source": f"coremltools {coremltools.__version__}", "messages": {}, "enums": {}}
    for module in (FeatureTypes_pb2, MIL_pb2, Model_pb2):
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        assert file.syntax == "proto3"
        collect(file.package, file.message_type, file.enum_type, out)
    with open(sys.argv[1], "w", encoding="utf-8") as target:
        json.dump(out, target, indent=1, sort_keys=True)
        target.write("\n")


main()
