"""Requests to a bucket of Amazon S3 or of anything that speaks its protocol.

Belongs here: requests, and what their failures mean for people. Does not belong here: what lies in a bucket
(``s3.py`` for publications, ``remote.py`` for storage), and credentials, which boto3 finds by itself.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from dataset_pipeline.adapters.destinations import (
    CHUNK_BYTES,
    Retries,
    TransientError,
    retry_after,
    without_secrets,
)
from dataset_pipeline.errors import ConfigError, OutsideWorldError

_CREDENTIALS_HINT: Final = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, to credentials that may write there"
)
_TRANSIENT_CODES: Final = frozenset(
    ["SlowDown", "InternalError", "RequestTimeout", "ServiceUnavailable", "BadDigest", "Throttling",
     "ThrottlingException", "TooManyRequests", "RequestLimitExceeded", "OperationAborted", "XAmzContentSHA256Mismatch"]
)  # fmt: skip
_CREDENTIAL_CODES: Final = frozenset(
    ["ExpiredToken", "TokenRefreshRequired", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"]
)
Result = TypeVar("Result")


class ConditionError(Exception):
    """An object is not what a conditional request asked it to be."""


@dataclass(frozen=True)
class Object:
    """What a listing tells of an object."""

    size: int
    etag: str


class Bucket:
    """Requests to one bucket; every failure is one clear line, and what is worth another try gets it."""

    def __init__(
        self, name: str, endpoint: str | None, region: str | None, parallel: int, retries: Retries
    ) -> None:
        """``endpoint``: the server's address, Amazon's by default; ``parallel``: requests at a time, at most."""
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        self.name = name
        self.where = f"s3://{name}"
        self._retries, self._parallel = retries, parallel
        try:
            self._client = boto3.session.Session().client(
                "s3",
                endpoint_url=endpoint,
                region_name=region or (None if endpoint is None else "us-east-1"),
                config=Config(
                    retries={"total_max_attempts": 1},  # ours know Retry-After
                    connect_timeout=20,
                    read_timeout=60,
                    max_pool_connections=2 * parallel,
                    s3={"addressing_style": "path" if endpoint else "auto"},
                    # Content-MD5 is what every server checks; not every one knows the later checksums.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )
        except (BotoCoreError, ValueError) as error:
            raise ConfigError(f"{self.where}: {without_secrets(str(error))}") from None

    def call(self, operation: str, what: str, **arguments: Any) -> Any:
        """One request; ``what`` names the file or the purpose. A missing object gives None."""
        arguments = {"Bucket": self.name, **arguments}
        method = getattr(self._client, operation)
        return self._retries.call(lambda: self._translated(lambda: method(**arguments), what), what)

    def read(self, key: str, what: str) -> bytes | None:
        """A small object's bytes, or None."""

        def whole() -> bytes | None:
            answer = self._client.get_object(Bucket=self.name, Key=key)
            data: bytes = answer["Body"].read()
            if len(data) != answer["ContentLength"]:
                raise TransientError("the answer was cut short")
            return data

        return self._retries.call(lambda: self._translated(whole, what), what)

    def sha256(self, key: str, what: str) -> str:
        """SHA-256 of an object's bytes, by reading all of them."""

        def hashed() -> str:
            digest = hashlib.sha256()
            for chunk in self._client.get_object(Bucket=self.name, Key=key)["Body"].iter_chunks(CHUNK_BYTES):
                digest.update(chunk)
            return digest.hexdigest()

        return self._retries.call(lambda: self._translated(hashed, what), what) or ""

    def upload(self, place: Path, key: str, what: str) -> None:
        """Send a large file, in parts."""
        from boto3.exceptions import S3UploadFailedError

        def sent() -> None:
            try:
                self._client.upload_file(str(place), self.name, key)
            except S3UploadFailedError as error:
                raise TransientError(without_secrets(str(error))) from None

        self._retries.call(lambda: self._translated(sent, what), what)

    def download(self, key: str, place: Path, what: str) -> str | None:
        """Write an object to a file; SHA-256 of its bytes, or None where it is not there."""

        def written() -> str:
            answer, digest, size = self._client.get_object(Bucket=self.name, Key=key), hashlib.sha256(), 0
            with place.open("wb") as stream:
                for chunk in answer["Body"].iter_chunks(CHUNK_BYTES):
                    digest.update(chunk)
                    size += stream.write(chunk)
            if size != answer["ContentLength"]:
                raise TransientError("the answer was cut short")
            return digest.hexdigest()

        return self._retries.call(lambda: self._translated(written, what), what)

    def pages(self, operation: str, what: str, **arguments: Any) -> Iterator[Any]:
        """Every page of a listing."""
        token: dict[str, Any] = {}
        while True:
            page = self.call(operation, what, **arguments, **token)
            if page is None:
                return
            yield page
            if not page.get("IsTruncated"):
                return
            token = {
                given: page[found]
                for given, found in (
                    ("ContinuationToken", "NextContinuationToken"),
                    ("KeyMarker", "NextKeyMarker"),
                    ("UploadIdMarker", "NextUploadIdMarker"),
                    ("PartNumberMarker", "NextPartNumberMarker"),
                )
                if page.get(found)
            }
            if not token:
                return

    def each(self, work: Callable[[Any], Any], jobs: Iterable[Any]) -> None:
        """``work`` on every job, so many at a time as requests may be under way; the first failure ends it."""
        with ThreadPoolExecutor(self._parallel) as pool:
            running = [pool.submit(work, job) for job in jobs]
            try:
                for job in running:
                    job.result()
            except BaseException:
                for job in running:
                    job.cancel()
                raise

    def objects(self, prefix: str) -> dict[str, Object]:
        """Key -> object of everything that begins with ``prefix``."""
        return {
            entry["Key"]: Object(int(entry["Size"]), entry["ETag"].strip('"'))
            for page in self.pages("list_objects_v2", f"{self.where}/{prefix}: listing", Prefix=prefix)
            for entry in page.get("Contents", [])
        }

    def _translated(self, request: Callable[[], Result], what: str) -> Result | None:
        from botocore import exceptions as boto
        from urllib3.exceptions import HTTPError

        try:
            return request()
        except boto.ClientError as error:
            self._explain(error.response, what)
            return None
        except (boto.NoCredentialsError, boto.PartialCredentialsError, boto.TokenRetrievalError) as error:
            raise OutsideWorldError(
                f"{what}: {without_secrets(str(error))}", hint=_CREDENTIALS_HINT
            ) from None
        except boto.EndpointConnectionError as error:
            raise OutsideWorldError(
                f"{what}: {without_secrets(str(error))}",
                hint="Check the address and the network, then run the same command again: what is finished is kept",
            ) from None
        except (boto.HTTPClientError, boto.ResponseStreamingError, boto.IncompleteReadError, HTTPError,
                ConnectionError, TimeoutError) as error:  # fmt: skip
            raise TransientError(f"{type(error).__name__}: the connection broke or gave no answer") from None
        except (boto.BotoCoreError, ValueError) as error:
            raise OutsideWorldError(f"{what}: {without_secrets(str(error))}") from None

    def _explain(self, response: Mapping[str, Any], what: str) -> None:
        """None for an object that is not there; raises for every other answer."""
        fault, about = response.get("Error", {}), response.get("ResponseMetadata", {})
        code, status = str(fault.get("Code", "")), int(about.get("HTTPStatusCode", 0))
        if code in _CREDENTIAL_CODES:
            raise OutsideWorldError(f"{what}: the credentials were refused ({code})", hint=_CREDENTIALS_HINT)
        if code in ("RequestTimeTooSkewed", "RequestExpired"):
            raise OutsideWorldError(
                f"{what}: the clock of this machine differs from the server's ({code})",
                hint="Set the clock, then run the same command again",
            )
        if status == 412 or code in ("PreconditionFailed", "ConditionalRequestConflict"):
            raise ConditionError(what)
        if code in _TRANSIENT_CODES or status in (429, 500, 502, 503, 504):
            raise TransientError(
                f"the server answered {status} {code}".rstrip(), retry_after(about.get("HTTPHeaders", {}))
            )
        if code in ("NoSuchBucket", "InvalidBucketName"):
            raise ConfigError(
                f"{self.where}: no such bucket",
                hint="Create it, or correct its name in dataset.yaml or the call: a mistyped one is never created",
            )
        if status == 404 or code in ("NoSuchKey", "NoSuchUpload", "NotFound", "NoSuchBucketPolicy"):
            return
        if status in (401, 403):
            raise OutsideWorldError(
                f"{what}: not permitted ({code or status}): the bucket may be somebody else's, or the credentials "
                "may read and not write",
                hint=_CREDENTIALS_HINT,
            )
        if code == "EntityTooLarge":
            raise OutsideWorldError(f"{what}: larger than the host takes", hint="Lower release.max_shard_mib")
        raise OutsideWorldError(f"{what}: the server answered {status} {without_secrets(code)}")
