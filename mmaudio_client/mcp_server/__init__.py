"""The MCP server: tools that make sounds, for assistants and editors (https://modelcontextprotocol.io).

Needs the extra `mcp` of the distribution; nothing else of the client imports it.
"""
