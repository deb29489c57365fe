import random

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from detect.data.formats.label_map import is_label_map, label_map_text, read_label_map
from detect.data.notes import Notes
from detect.errors import DataError
from tests.mutations import count_refusals, damaged

TEXT = """# two classes
item {
  name: "/m/01"   # a name of Open Images
  id: 2
  display_name: "Cat"
}
item: < id: 1, name: 'big' ' d\\'og \\303\\251' frequency: RARE
  keypoints { id: 1 label: "nose" } ancestor_ids: ["a", "b"] >;
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "map.pbtxt").write_text(TEXT)
    return tmp_path / "map.pbtxt"


def test_comments_quotes_escapes_and_other_fields(path):
    notes = Notes()
    found = read_label_map(path, notes)
    assert found.names == {1: "big d'og é", 2: "Cat"}
    assert list(found.names) == [1, 2]
    assert found.shown == {2: "/m/01"}
    assert notes.lines() == (
        "not used, fields of label maps: 3 (frequency in map.pbtxt:7, keypoints in map.pbtxt:8, "
        "ancestor_ids in map.pbtxt:8)",
    )
    assert is_label_map(path)


def label_map_message():
    """A message of StringIntLabelMap, made of the fields of the Object Detection API's string_int_label_map.proto."""
    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="label_map.proto", package="test", syntax="proto2")
    item = file.message_type.add(name="Item")
    for number, (name, value) in enumerate(
        (("name", kind.TYPE_STRING), ("id", kind.TYPE_INT32), ("display_name", kind.TYPE_STRING)), 1
    ):
        item.field.add(name=name, number=number, type=value, label=kind.LABEL_OPTIONAL)
    whole = file.message_type.add(name="LabelMap")
    whole.field.add(name="item", number=1, type=kind.TYPE_MESSAGE, type_name=".test.Item", label=kind.LABEL_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.LabelMap"))()


def test_the_parser_of_protobuf_reads_the_same(path):
    for text in (TEXT, label_map_text({3: "a'b\\c", 1: 'say "no"', 2: "Ünï"})):
        path.write_text(text)
        found = read_label_map(path, Notes())
        expected = text_format.Parse(text, label_map_message(), allow_unknown_field=True)
        names = {i.id: i.display_name if i.name.startswith("/m/") else i.name for i in expected.item}
        assert found.names == names
        others = {i.id: i.name if i.name.startswith("/m/") else i.display_name for i in expected.item}
        assert found.shown == {number: other for number, other in others.items() if other}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "item { id: 1 name: 'a' }\nitem { id: 1 name: 'b' }",
            r":2: the id 1 is given twice: a in line 1, b; ids must differ",
        ),
        ("item { id: 1 name: 'a' }\nitem { id: 2 name: 'a' }", r":2: the name 'a' is given twice"),
        ("item { name: 'a' }", r":1: the id of 'a' is ''; it must be a whole number from 1"),
        ("item { id: -1 name: 'a' }", r":1: the id of 'a' is '-1'"),
        ("item { id: 1.5 name: 'a' }", r":1: the id of 'a' is '1\.5'"),
        ("item { id: 0 name: 'a' }", r":1: 'a' has the id 0, which is background"),
        ("item { id: 1 }", r":1: the item 1 has no name"),
        ("item { id: 1 id: 2 name: 'a' }", r":1: the item has id twice"),
        ("item { id: 1 name: 'a'", r":1: the file ends before the '}'"),
        ("item { id: 1 name: 'a }\n}", r":1: ''a }' can't be read; is a quote missing\?"),
        ("item { id: 1 name: }", r":1: name has no value"),
        ("item { id: [1 name: 'a' }", r":1: the list of id is not closed"),
        ("}", r":1: '}' is not the name of a field"),
        ("a {" * 50, r":1: messages are nested deeper than 20"),
        ("", r": it has no item; a label map is 'item \{ id: 1"),
    ],
)
def test_bad_text_is_named_with_file_and_line(path, text, message):
    path.write_text(text)
    with pytest.raises(DataError, match=r"map\.pbtxt" + message):
        read_label_map(path, Notes())


def test_what_is_written_is_read(path):
    names = {3: "a'b\\c", 1: 'say "no"', 2: "Ünïçödé"}
    path.write_text(label_map_text(names))
    assert read_label_map(path, Notes()).names == names


def test_damaged_files_are_refused_with_one_message(path):
    rng = random.Random(0)
    contents = [damaged(TEXT.encode(), rng) for _ in range(400)]
    assert 100 < count_refusals(lambda: read_label_map(path, Notes()), path, contents) < 400
