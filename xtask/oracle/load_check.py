"""Loads Core ML packages with coremltools' own type inference and reads every blob they reference.

usage: load_check.py FOLDER_OR_ASSET...   (folders are searched for *.mlpackage, *.mlmodelcassets are unzipped first)
Exit 0 when every package loads, 1 otherwise.
"""

import pathlib
import sys
import tempfile
import zipfile

import coremltools as ct
from coremltools import libmilstoragepython, libmodelpackage
from coremltools.converters.mil.frontend.milproto.load import load
from coremltools.proto import MIL_pb2

READERS = {
    MIL_pb2.FLOAT16: "read_fp16_data",
    MIL_pb2.FLOAT32: "read_float_data",
    MIL_pb2.UINT8: "read_uint8_data",
    MIL_pb2.INT8: "read_int8_data",
    MIL_pb2.INT16: "read_int16_data",
    MIL_pb2.UINT16: "read_uint16_data",
    MIL_pb2.INT32: "read_int32_data",
    MIL_pb2.UINT32: "read_uint32_data",
    MIL_pb2.INT4: "read_int4_data",
    MIL_pb2.UINT1: "read_uint1_data",
    MIL_pb2.UINT2: "read_uint2_data",
    MIL_pb2.UINT3: "read_uint3_data",
    MIL_pb2.UINT4: "read_uint4_data",
    MIL_pb2.UINT6: "read_uint6_data",
}


def blob_values(message):
    """Every Value with a blobFileValue below `message`."""
    if message.DESCRIPTOR.full_name.endswith("MILSpec.Value") and message.WhichOneof("value") == "blobFileValue":
        yield message
    for field, content in message.ListFields():
        if field.type != field.TYPE_MESSAGE:
            continue
        if field.message_type.GetOptions().map_entry:
            value_field = field.message_type.fields_by_name["value"]
            if value_field.type == value_field.TYPE_MESSAGE:
                for item in content.values():
                    yield from blob_values(item)
        elif field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED:
            for item in content:
                yield from blob_values(item)
        else:
            yield from blob_values(content)


def check(package):
    libmodelpackage.ModelPackage(str(package))
    assert libmodelpackage.ModelPackage.isValid(str(package)), "libmodelpackage says it is not valid"
    spec = ct.models.MLModel(str(package), skip_model_load=True).get_spec()
    root = package / "Data" / "com.apple.CoreML"
    weights = root / "weights"
    program = load(spec, spec.specificationVersion, str(weights))
    ops = sum(len(f.operations) for f in program.functions.values())
    blobs = 0
    for value in blob_values(spec.mlProgram):
        reader = libmilstoragepython._BlobStorageReader(str(weights / pathlib.Path(value.blobFileValue.fileName).name))
        dims = [d.constant.size for d in value.type.tensorType.dimensions]
        count = 1
        for d in dims:
            count *= d
        data = getattr(reader, READERS[value.type.tensorType.dataType])(value.blobFileValue.offset)
        assert len(data) == count, f"blob at {value.blobFileValue.offset}: {len(data)} elements, type says {count}"
        blobs += 1
    # A model with several functions describes each of them, one with a single function describes itself.
    interfaces = {f.name: f for f in spec.description.functions} or {"main": spec.description}
    assert set(program.functions) == set(interfaces), (set(program.functions), set(interfaces))
    for name, function in program.functions.items():
        interface = interfaces[name]
        for feature in list(interface.input) + list(interface.output):
            assert feature.type.WhichOneof("Type") == "multiArrayType", feature.name
        declared = {f.name for f in list(interface.input) + list(interface.state)}
        assert set(function.inputs) == declared, (set(function.inputs), declared)
        assert {o.name for o in function.outputs} == {f.name for f in interface.output}
    return ops, blobs


def packages(argument, scratch):
    path = pathlib.Path(argument)
    if path.is_file():
        target = pathlib.Path(scratch) / path.stem
        with zipfile.ZipFile(path) as archive:
            archive.extractall(target)
        path = target
    return sorted(path.rglob("*.mlpackage"))


def main():
    failures = 0
    total = 0
    with tempfile.TemporaryDirectory() as scratch:
        for argument in sys.argv[1:]:
            found = packages(argument, scratch)
            if not found:
                print(f"FAILED {argument}: no package inside")
                failures += 1
            for package in found:
                total += 1
                try:
                    ops, blobs = check(package)
                    print(f"loaded {pathlib.Path(argument).name}/{package.name}: {ops} ops, {blobs} blobs")
                except Exception as error:  # every kind of failure is a finding about the package
                    failures += 1
                    print(f"FAILED {argument}/{package.name}: {type(error).__name__}: {error}")
    print(f"{total} packages, {failures} failures")
    return 1 if failures or not total else 0


sys.exit(main())
