"""Every form of a bucket event, read from a sample as its store sends it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from jobs.triggers.event_parsers.event import ObjectCreated, UnreadableEventError
from jobs.triggers.event_parsers.message import read_document, read_text
from tests import bucket_events
from tests.bucket_events import FORMS, sample

KEYS = [
    "in/red flower.mp4",
    "in/a+b.mp4",
    "in/100%.mp4",
    "in/50%25.mp4",
    "in/ü 日本.mp4",
    "in/two\nlines.mp4",
    "in/&?#=.mp4",
]


def only(document: Any) -> ObjectCreated:
    (created,) = read_document(document)
    return created


def test_an_aws_record_is_read_whole() -> None:
    assert only(sample("aws")) == ObjectCreated(
        source="aws:s3",
        bucket="b",
        keys=("in/red flower.mp4", "in/red+flower.mp4"),
        version_id="096fKKXTRTtl3on89fVO.nfljtsv6qko",
        etag="d41d8cd98f00b204e9800998ecf8427e",
        sequencer="0055AED6DCD90281E5",
        size_bytes=1024,
        name="ObjectCreated:Put",
    )


def test_an_sns_envelope_holds_what_lies_inside() -> None:
    assert only({**sample("sns"), "Message": json.dumps(sample("aws"))}) == only(sample("aws"))


def test_a_subscription_tells_of_no_object() -> None:
    assert read_document(sample("sns_subscription")) == []


def test_the_test_event_tells_of_no_object_bare_and_wrapped() -> None:
    assert read_document(sample("test_event")) == []
    assert read_document({**sample("sns"), "Message": json.dumps(sample("test_event"))}) == []


def test_an_eventbridge_key_is_taken_as_it_is() -> None:
    created = only(sample("eventbridge"))
    assert (created.keys, created.version_id) == (("in/red flower.mp4",), "096fKKXTRTtl3on89fVO.nfljtsv6qko")
    assert only(FORMS["eventbridge"]("b", "in/a+b%20.mp4", etag="e")).keys == ("in/a+b%20.mp4",)


def test_eventbridge_and_aws_tell_the_same_version() -> None:
    one, other = only(sample("eventbridge")), only(sample("aws"))
    assert (one.etag, one.version_id, one.sequencer) == (other.etag, other.version_id, other.sequencer)


def test_a_minio_key_is_decoded_down_to_the_slash() -> None:
    created = only(sample("minio"))
    assert (created.source, created.keys[0], created.name) == ("minio:s3", "in/red flower.mp4", "ObjectCreated:Put")


def test_minios_redis_list_holds_the_same_records() -> None:
    assert only(sample("minio_access")) == only(sample("minio"))


def test_minio_records_without_a_source_are_known_by_their_names() -> None:
    document = sample("minio_access")
    del document[0]["Event"][0]["eventSource"]
    document[0]["Event"][0]["eventName"] = "s3:ObjectCreated:PutTagging"
    assert read_document(document) == []


@pytest.mark.parametrize("kind", ["PutRetention", "PutLegalHold", "PutTagging", "DeleteTagging"])
def test_a_change_of_tags_on_minio_is_no_new_object(kind: str) -> None:
    document = sample("minio")
    document["Records"][0]["eventName"] = f"s3:ObjectCreated:{kind}"
    assert read_document(document) == []


def test_a_ceph_key_is_read_as_it_is_first_and_decoded_second() -> None:
    created = only(FORMS["ceph"]("b", "in/a+b%20c.mp4", etag="e"))
    assert created.keys == ("in/a+b%20c.mp4", "in/a b c.mp4")


def test_cephs_empty_version_and_text_size_mean_none_and_a_number() -> None:
    created = only(sample("ceph"))
    assert (created.version_id, created.size_bytes, created.sequencer) == (None, 1024, None)


@pytest.mark.parametrize("prefix", ["", "s3:"])
def test_cephs_names_may_have_the_prefix_or_not(prefix: str) -> None:
    document = sample("ceph")
    document["Records"][0]["eventName"] = f"{prefix}ObjectCreated:CompleteMultipartUpload"
    assert only(document).name == "ObjectCreated:CompleteMultipartUpload"


def test_the_begin_of_a_multipart_upload_on_ceph_is_no_object() -> None:
    document = sample("ceph")
    document["Records"][0]["eventName"] = "ObjectCreated:Post"
    document["Records"][0]["s3"]["object"] |= {"eTag": "", "size": 0}
    assert read_document(document) == []


def test_a_browsers_post_on_ceph_is_an_object() -> None:
    document = sample("ceph")
    document["Records"][0]["eventName"] = "ObjectCreated:Post"
    assert only(document).etag == "d41d8cd98f00b204e9800998ecf8427e"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("key", KEYS)
def test_every_forms_readings_hold_the_key_that_was_meant(form: str, key: str) -> None:
    created = only(json.loads(json.dumps(FORMS[form]("b", key, etag="e"))))
    assert key in created.keys
    if form != "ceph_encoded":  # the likeliest reading is the right one
        assert created.keys[0] == key


@pytest.mark.parametrize(
    "name", ["ObjectRemoved:Delete", "s3:ObjectRemoved:Delete", "ObjectTagging:Put", "s3:ObjectAccessed:Get"]
)
def test_other_happenings_tell_of_no_new_object(name: str) -> None:
    for form in ("aws", "minio", "ceph"):
        document = sample(form)
        document["Records"][0]["eventName"] = name
        assert read_document(document) == []
    assert read_document({**sample("eventbridge"), "detail-type": "Object Deleted"}) == []


def test_several_records_are_several_objects() -> None:
    one, other = FORMS["aws"]("b", "one", etag="1"), FORMS["aws"]("b", "two", etag="2")
    assert [c.keys[0] for c in read_document({"Records": one["Records"] + other["Records"]})] == ["one", "two"]


@pytest.mark.parametrize("version", ["2.0", "2.1", "2.6"])
def test_minor_versions_are_read(version: str) -> None:
    document = sample("aws")
    document["Records"][0]["eventVersion"] = version
    assert only(document).bucket == "b"


def test_a_version_null_is_none() -> None:
    document = sample("aws")
    document["Records"][0]["s3"]["object"]["versionId"] = "null"
    assert only(document).version_id is None


def _spoiled(*path: Any, value: Any = None) -> Any:
    document = copy.deepcopy(sample("aws"))
    inner = document
    for part in path[:-1]:
        inner = inner[part]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return document


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"hello": "there"},
        "text",
        7,
        None,
        [{"EventTime": "2026"}],
        {"Records": [{}]},
        {"Records": ["no"]},
        _spoiled("Records", 0, "eventVersion", value="3.0"),
        _spoiled("Records", 0, "s3", "object", "key"),
        _spoiled("Records", 0, "s3", "object", "key", value="%FF%FE" * 600),
        _spoiled("Records", 0, "s3", "object", "key", value="a\x00b"),
        _spoiled("Records", 0, "s3", "bucket", "name", value=[]),
        _spoiled("Records", 0, "eventName"),
        {**sample("sns"), "Message": "not JSON"},
        {**sample("sns"), "Message": {"Records": []}},
        {**sample("eventbridge"), "detail": {}},
    ],
)
def test_what_is_no_event_is_said_to_be_none(document: Any) -> None:
    with pytest.raises(UnreadableEventError):
        read_document(document)


@pytest.mark.parametrize("text", ["", "{", b"\xff\xfe", "[" * 100_000])
def test_what_is_no_json_is_said_to_be_none(text: str | bytes) -> None:
    with pytest.raises(UnreadableEventError):
        read_text(text)


def test_envelopes_do_not_nest_for_ever() -> None:
    document: Any = sample("aws")
    for _ in range(5):
        document = {**sample("sns"), "Message": json.dumps(document)}
    with pytest.raises(UnreadableEventError, match="envelopes"):
        read_document(document)


def test_an_event_survives_being_written_down() -> None:
    created = only(sample("minio"))
    assert ObjectCreated.from_json(json.loads(json.dumps(created.as_json()))) == created


def test_copies_share_a_fingerprint_and_versions_do_not() -> None:
    one = only(bucket_events.aws("b", "k", etag="1"))
    assert one.fingerprint == only(bucket_events.aws("b", "k", etag="1")).fingerprint
    assert one.fingerprint != only(bucket_events.aws("b", "k", etag="2")).fingerprint
