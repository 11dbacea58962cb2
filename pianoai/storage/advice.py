"""What to do when storage fails, and the settings with which it fails less."""

import os
import re

# What DVC, Botocore and S3 servers say, and what to do about it; what fits first counts.
ADVICE = (
    (
        r"SignatureDoesNotMatch",
        "the secret key is wrong: dvc remote modify --local storage secret_access_key SECRET, or AWS_SECRET_ACCESS_KEY",
    ),
    (
        r"InvalidAccessKeyId",
        "the server does not know this key: dvc remote modify --local storage access_key_id KEY (or AWS_ACCESS_KEY_ID)",
    ),
    (
        r"Unable to locate credentials|NoCredentials",
        "there is no key: `aws configure`, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; `make s3` needs none",
    ),
    (r"ExpiredToken|token included in the request is expired", "the session's token has run out: log in to AWS again"),
    (
        r"AccessDenied|Access Denied|Forbidden|\(403\)|HTTP 403",
        "the key may not do this: docs/reproducibility.md has the policy that it needs, under Sharing",
    ),
    (
        r"NoSuchBucket|bucket does not exist",
        "make the bucket, or name another: dvc remote modify --local storage url s3://BUCKET/PATH",
    ),
    (
        r"SlowDown|ServiceUnavailable|InternalError|reached max retries|\(50[0-4]\)|HTTP 50[0-4]",
        "the server has too much to do; nothing is lost: run this again later, it sends or fetches only the rest",
    ),
    (
        r"payload is not completed|PayloadError|Read timeout|did not match calculated",
        "the connection broke; nothing is lost: run this again, it sends or fetches only the rest",
    ),
    (
        r"Could not connect to the endpoint|Connection was closed|[Cc]onnection reset|Connect timeout",
        "no server answers there, or the connection broke; nothing is lost: run this again, it sends or fetches only "
        "the rest. If it never answers, start one with `make s3` or correct endpointurl in .dvc/config.local",
    ),
    (
        r"Checkout failed|missing-files|are missing from the cache|missing cache files",
        "the remote lacks these files or has them damaged: `make audit` lists the damaged; "
        "remove those, then `make push` where good copies are, or `make repro`",
    ),
)


def advice(said: str) -> list[str]:
    """What to do about what was said: one line for the first of ADVICE that fits, or none."""
    return [what for pattern, what in ADVICE if re.search(pattern, said)][:1]


def set_up_client() -> None:
    """Try five times, and let a download go on after a lost connection, where no variable says otherwise.

    For a part of an object botocore has no checksum; DVC compares what has arrived with its name anyway (`verify`).
    """
    os.environ.setdefault("AWS_MAX_ATTEMPTS", "5")
    os.environ.setdefault("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
    os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
