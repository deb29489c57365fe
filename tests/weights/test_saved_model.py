"""SavedModels of strangers: what they may do, and that damaged ones are found. None of these is loaded."""

import json

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from detect.errors import WeightsError
from detect.weights import claims, saved_model

FORBIDDEN = {
    "ReadFile": lambda x: tf.strings.length(tf.io.read_file("/etc/passwd")),
    "WriteFile": lambda x: tf.io.write_file("/tmp/x", "x") or x,
    "MatchingFiles": lambda x: tf.strings.length(tf.io.matching_files("/*")),
    "PyFunc": lambda x: tf.raw_ops.PyFunc(input=[x], token="t", Tout=[tf.float32])[0],
    "EagerPyFunc": lambda x: tf.py_function(lambda y: y, [x], tf.float32),
    "PrintV2": lambda x: tf.print(x, output_stream="file:///tmp/x") or x,
    "SaveV2": lambda x: tf.raw_ops.SaveV2(prefix="p", tensor_names=["a"], shape_and_slices=[""], tensors=[x]) or x,
    "RestoreV2": lambda x: tf.raw_ops.RestoreV2(
        prefix="p", tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.int8]
    ),
    "DecodeProtoV2": lambda x: tf.io.decode_proto("", "m", [], [], descriptor_source="/etc/passwd").sizes,
    "DebugIdentity": lambda x: tf.raw_ops.DebugIdentity(input=x, debug_urls=["file:///tmp/x"]),
    "Abort": lambda x: tf.raw_ops.Abort() or x,
}


def write(folder, function):
    module = tf.Module()
    module.weight = tf.Variable(tf.ones([3]))

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32)])
    def serve(x):
        found = function(x)
        return {"y": found if isinstance(found, tf.Tensor) else x * module.weight}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return write(tmp_path_factory.mktemp("plain"), lambda x: tf.einsum("ij,j->i", x, tf.constant([1.0, 2, 3])))


def changed(folder, target, change):
    """A copy of a model whose proto was changed."""
    import shutil

    shutil.copytree(folder, target)
    model = saved_model_pb2.SavedModel.FromString((target / "saved_model.pb").read_bytes())
    change(model)
    (target / "saved_model.pb").write_bytes(model.SerializeToString())
    return target


def refusal(folder, sha256=None):
    with pytest.raises(WeightsError) as caught:
        saved_model.check(folder, sha256)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def test_a_model_that_only_computes_is_legal(plain):
    saved_model.check(plain)
    saved_model.check(plain, saved_model.hashes(plain))


@pytest.mark.parametrize("name", FORBIDDEN)
def test_operations_that_do_more(tmp_path, name):
    told = refusal(write(tmp_path / "model", FORBIDDEN[name]))
    assert "operations that do more than to compute" in told and name in told


def test_control_flow_is_legal_and_what_it_calls_is_checked(tmp_path):
    def loop(x):
        return tf.while_loop(
            lambda i, y: i < 3, lambda i, y: (i + 1, tf.cond(i > 1, lambda: y, lambda: y * 2)), (0, x)
        )[1]

    saved_model.check(write(tmp_path / "right", loop))

    def reads(x):
        return tf.cond(tf.reduce_sum(x) > 0, lambda: x, lambda: x + tf.cast(FORBIDDEN["ReadFile"](x), tf.float32))

    assert "ReadFile" in refusal(write(tmp_path / "wrong", reads))


def test_the_functions_that_save_may_not_be_called(plain, tmp_path):
    """They hold SaveV2 and RestoreV2, and the loader does not call them: a graph that does is refused."""

    def call(model):
        graph = model.meta_graphs[0]
        names = [f.signature.name for f in graph.graph_def.library.function]
        saver = next(name for name in names if name.startswith("__inference__traced_save"))
        served = next(f for f in graph.graph_def.library.function if "serve" in f.signature.name)
        node = served.node_def.add(name="evil", op="StatefulPartitionedCall")
        node.attr["f"].func.name = saver

    assert "SaveV2" in refusal(changed(plain, tmp_path / "called", call))

    def expose(model):
        graph = model.meta_graphs[0]
        names = [f.signature.name for f in graph.graph_def.library.function]
        graph.object_graph_def.concrete_functions[next(n for n in names if "traced_save" in n)].SetInParent()

    assert "SaveV2" in refusal(changed(plain, tmp_path / "exposed", expose))


def test_operations_that_nobody_knows_and_functions_of_their_names(plain, tmp_path):
    def unknown(model):
        functions = model.meta_graphs[0].graph_def.library.function
        served = next(function for function in functions if "serve" in function.signature.name)
        served.node_def.add(name="x", op="Evil\x1b")

    assert "Evil\\x1b" in refusal(changed(plain, tmp_path / "unknown", unknown))

    def doubled(model):
        model.meta_graphs[0].graph_def.library.function.add().signature.name = "MatMul"

    assert "MatMul" in refusal(changed(plain, tmp_path / "doubled", doubled))


def test_constants_that_swell(plain, tmp_path):
    def swell(model):
        tensor = model.meta_graphs[0].graph_def.node.add(name="x", op="Const").attr["value"].tensor
        tensor.dtype = 1
        tensor.float_val.append(1)
        tensor.tensor_shape.dim.add(size=1 << 30)

    assert "claims to hold more than" in refusal(changed(plain, tmp_path / "x", swell))


def test_other_kinds_of_models(plain, tmp_path):
    for name, change in {
        "no graph": lambda model: model.ClearField("meta_graphs"),
        "two graphs": lambda model: model.meta_graphs.add(),
        "version 1": lambda model: model.meta_graphs[0].ClearField("object_graph_def"),
    }.items():
        assert "SavedModel of TensorFlow 2 with one graph" in refusal(changed(plain, tmp_path / name, change))
    unsigned = changed(plain, tmp_path / "x", lambda model: model.meta_graphs[0].signature_def.clear())
    assert "no signature serving_default" in refusal(unsigned)
    (unsigned / "saved_model.pb").write_bytes(b"\xff" * 9)
    assert "it is damaged" in refusal(unsigned)


@pytest.mark.parametrize(
    "name", ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"]
)
def test_a_file_that_changed_since_it_was_written(plain, tmp_path, name):
    known = saved_model.hashes(plain)
    folder = changed(plain, tmp_path / "x", lambda model: None)
    assert name in known
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    assert f"{name} is not what it was when the model was written" in refusal(folder, known)
    (folder / name).unlink()
    assert name in refusal(folder, known) or "can't be read" in refusal(folder, known)


RIGHT = {"classes": ["cat", "dog"], "category_ids": [3, 90], "size": [300, 300]}


@pytest.mark.parametrize("change", [{}, {"category_ids": None}, {"category_ids": []}, {"more": 1}])
def test_right_descriptions(change):
    claims.check_description(RIGHT | change, "x.json")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"classes": None}, "classes is None; legal is a list of names"),
        ({"classes": []}, "classes is []"),
        ({"classes": "cat"}, "classes is 'cat'"),
        ({"classes": [1]}, "classes is [1]"),
        ({"classes": ["\x1b"] * 100_000}, "classes is ["),
        ({"size": [0, 3]}, "size is [0, 3]; legal is height and width, from 1 to 16384"),
        ({"size": [1 << 20, 3]}, "size is [1048576, 3]"),
        ({"size": [300.5, 3]}, "size is [300.5, 3]"),
        ({"size": [300]}, "size is [300]"),
        ({"category_ids": [1, True]}, "category_ids is [1, True]"),
        ({"category_ids": [1]}, "it has 1 ids for 2 classes"),
    ],
)
def test_wrong_descriptions(change, told):
    with pytest.raises(WeightsError) as caught:
        claims.check_description(RIGHT | change, "x.json")
    assert str(caught.value).startswith(f"x.json: {told}")
    assert len(str(caught.value)) < 300 and "\x1b" not in str(caught.value)


def test_a_description_that_is_no_mapping():
    with pytest.raises(WeightsError, match=r"x\.json: legal is a json object, this is \[\]"):
        claims.check_description(json.loads("[]"), "x.json")
