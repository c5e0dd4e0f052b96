# The API, the control worker and the migrations: the base install, without torch.
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
 && /opt/mmaudio/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt ./mmaudio_client .

FROM python:3.12-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/mmaudio mmaudio
COPY --from=build /opt/mmaudio /opt/mmaudio
ENV PATH=/opt/mmaudio/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MMAUDIO_DATA_DIR=/var/lib/mmaudio \
    MMAUDIO_API_BIND=0.0.0.0:8000
USER mmaudio
WORKDIR /var/lib/mmaudio
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
STOPSIGNAL SIGTERM
CMD ["mmaudio", "api"]
