# The control plane: the command line, the pipeline's runner and the doctor, without torch.
# Built from the repository's root; images/README.md says how.
ARG BASE=python:3.11-slim

# The packages of others, in a virtual environment that has no pip.
FROM ${BASE} AS packages
WORKDIR /build
COPY constraints.txt pyproject.toml images/requirements.py ./
ARG REQUIREMENTS=control
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.crt \
    python requirements.py ${REQUIREMENTS} > requirements.txt \
    && python -m venv --without-pip /opt/hbseg \
    && python -m pip --python /opt/hbseg/bin/python install --no-cache-dir --no-compile \
        --constraint constraints.txt --requirement requirements.txt \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/hbseg

# Our own, as files that are laid over that environment.
FROM ${BASE} AS own
WORKDIR /build
COPY constraints.txt ./
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.crt \
    python -m venv --without-pip /opt/hbseg \
    && python -m pip --python /opt/hbseg/bin/python install --no-cache-dir --no-compile \
        --constraint constraints.txt setuptools
COPY LICENSE README.md pyproject.toml ./
COPY hbseg hbseg
COPY cli cli
COPY jobs jobs
COPY manifests manifests
RUN python -m pip --python /opt/hbseg/bin/python install --no-cache-dir --no-compile \
        --no-deps --no-build-isolation --no-index --prefix /own . \
    && python -m compileall -q --invalidation-mode unchecked-hash -s /own -p /opt/hbseg /own

FROM ${BASE}
# Python's own modules: some bases have them without bytecode, and no pod can write it.
RUN python -m compileall -q --invalidation-mode unchecked-hash \
        -x '/(ensurepip|idlelib|lib2to3|test|tests|tkinter|turtledemo|[a-z]+-packages)/' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --from=packages /opt/hbseg /opt/hbseg
COPY --from=own /own /opt/hbseg
# A user without an entry in passwd has no home; of the image only /tmp can be written.
ENV PATH=/opt/hbseg/bin:$PATH HOME=/tmp

ARG VERSION
ARG REVISION
ARG SOURCE
LABEL org.opencontainers.image.title="hbseg-control" \
      org.opencontainers.image.description="hbseg's command line, runner and doctor" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0"

# Any other user works as well: all files are readable for everybody, and none is written.
USER 10001:0
ENTRYPOINT ["hbseg"]
CMD ["--help"]
