# GPU workers. torch's wheels contain the CUDA libraries; the container runtime (nvidia-container-toolkit) mounts the
# driver.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml hatch_build.py constraints.txt README.md LICENSE ./
COPY api ./api
COPY jobs ./jobs
COPY migrations ./migrations
COPY mmaudio_client ./mmaudio_client
COPY mmaudio_model ./mmaudio_model
COPY workers ./workers
RUN python -m venv /opt/mmaudio \
 && /opt/mmaudio/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt ./mmaudio_client '.[worker]'

FROM python:3.12-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/mmaudio mmaudio
COPY --from=build /opt/mmaudio /opt/mmaudio
ENV PATH=/opt/mmaudio/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MMAUDIO_DATA_DIR=/var/lib/mmaudio \
    MMAUDIO_WEIGHTS_DIR=/weights \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER mmaudio
WORKDIR /var/lib/mmaudio
VOLUME ["/weights"]
# A worker drains on SIGTERM: wait longer than MMAUDIO_DRAIN_GRACE_S before killing it.
STOPSIGNAL SIGTERM
CMD ["mmaudio", "worker", "--devices", "auto"]
