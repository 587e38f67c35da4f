"""Three small graphs: one that answers, one that never does, one that fails."""

import asyncio

from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph


async def answer(state: MessagesState):
    text = str(state["messages"][-1].content)
    if "traag" in text:  # slow enough to be killed in the middle of
        await asyncio.sleep(6)
    return {"messages": [AIMessage(content=f"Antwoord op: {text}")]}


async def hang(state: MessagesState):
    await asyncio.sleep(600)
    return {"messages": [AIMessage(content="te laat")]}


async def fail(state: MessagesState):
    raise RuntimeError("the graph fails on purpose")


def graph(node):
    builder = StateGraph(MessagesState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    builder.add_edge("node", END)
    return builder.compile()


agent = graph(answer)
hanging = graph(hang)
failing = graph(fail)
