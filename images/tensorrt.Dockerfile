# The steps that compile and run TensorRT engines: train.Dockerfile, and TensorRT.
# Built from the repository's root; images/README.md says how.
ARG BASE=python:3.11-slim

# torch and its CUDA libraries, in a virtual environment that has no pip. train.Dockerfile begins
# with the same stages, so that both images share these layers.
# A module of torch is written for newer Pythons alone; compileall would fail on it.
FROM ${BASE} AS torch
WORKDIR /build
COPY constraints.txt ./
ARG TORCH=torch
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.crt \
    python -m venv --without-pip /opt/hbseg \
    && python -m pip --python /opt/hbseg/bin/python install --no-cache-dir --no-compile \
        --constraint constraints.txt ${TORCH} \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash -x '/py3[0-9]+_' /opt/hbseg

# The other packages, as files that are laid over that environment.
FROM torch AS packages
COPY pyproject.toml images/requirements.py ./
ARG REQUIREMENTS="dependencies ml"
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.crt \
    python requirements.py ${REQUIREMENTS} > requirements.txt \
    && python -m pip --python /opt/hbseg/bin/python install --no-cache-dir --no-compile \
        --constraint constraints.txt --requirement requirements.txt --prefix /packages \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        -s /packages -p /opt/hbseg /packages

# TensorRT and its bridge to torch. Their libraries are in NVIDIA's index only; PyPI has packages that
# fetch them from there when they are built.
FROM packages AS tensorrt
ARG TENSORRT="torch-tensorrt==2.14.0 dllist==2.0.0 tensorrt-cu13==11.1.0.106 \
    tensorrt-cu13-bindings==11.1.0.106 tensorrt-cu13-libs==11.1.0.106"
ARG TENSORRT_INDEX="--extra-index-url https://pypi.nvidia.com"
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.crt \
    cp -R /packages/. /opt/hbseg \
    && python -m pip --python /opt/hbseg/bin/python install --no-cache-dir --no-compile \
        --constraint constraints.txt ${TENSORRT_INDEX} --prefix /tensorrt ${TENSORRT} \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        -s /tensorrt -p /opt/hbseg /tensorrt

# Our own, the same way.
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
COPY --from=torch /opt/hbseg /opt/hbseg
COPY --from=packages /packages /opt/hbseg
COPY --from=tensorrt /tensorrt /opt/hbseg
COPY --from=own /own /opt/hbseg
# A user without an entry in passwd has no home; of the image only /tmp can be written.
ENV PATH=/opt/hbseg/bin:$PATH HOME=/tmp
# What NVIDIA's container runtime mounts of the driver; which GPUs a pod sees is the cluster's part.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility

ARG VERSION
ARG REVISION
ARG SOURCE
LABEL org.opencontainers.image.title="hbseg-tensorrt" \
      org.opencontainers.image.description="hbseg's steps, with torch and TensorRT for CUDA 13" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0"

# Any other user works as well: all files are readable for everybody, and none is written.
USER 10001:0
CMD ["python", "-m", "hbseg_jobs.launch", "--help"]
