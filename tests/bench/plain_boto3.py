"""The plain way to read all claims: `plain_boto3 BUCKET PREFIX/`, one request after the other."""

from __future__ import annotations

import json
import sys

import boto3


def main(bucket: str, prefix: str) -> None:
    client = boto3.client("s3")
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=prefix, Delimiter="/"
    )
    for page in pages:
        for folder in page["CommonPrefixes"]:
            answer = client.get_object(Bucket=bucket, Key=f"{folder['Prefix']}run.json")
            print(json.loads(answer["Body"].read())["name"])


if __name__ == "__main__":
    main(*sys.argv[1:])
