#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Renders a still life of oranges, so that the tests and pictures of the app have a photo that belongs to the project: spheres
with a dimpled skin on a table, one lamp, soft shadows. Needs python3-numpy and python3-pil.

    sample_picture.py OUT.jpg [WIDTH HEIGHT]
"""
import sys

import numpy as np
from PIL import Image

WIDTH, HEIGHT = (int(a) for a in sys.argv[2:4]) if len(sys.argv) > 3 else (960, 720)
LAMP = np.array([-3.5, 5.5, 3.0])
SPHERES = [((-1.05, 0.92, 0.1), 0.92), ((0.95, 0.98, -0.35), 0.98), ((0.15, 0.8, 1.35), 0.8)]
SUPERSAMPLE = 2


def noise(points, seed):
    """Smooth noise in -1..1 from a sum of a few hundred waves of about one length."""
    rng = np.random.default_rng(seed)
    total = np.zeros(points.shape[:-1])
    for _ in range(48):
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        total += np.sin(points @ direction * rng.uniform(0.7, 1.3) + rng.uniform(0, 2 * np.pi))
    return total / 7


def unit(v):
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def sphere_hits(origin, ray, centre, radius):
    """Distance along each ray, inf where it misses."""
    to = origin - np.array(centre)
    b = (to * ray).sum(-1)
    inside = b * b - ((to * to).sum(-1) - radius * radius)
    distance = -b - np.sqrt(np.maximum(inside, 0))
    return np.where((inside > 0) & (distance > 1e-3), distance, np.inf)


def shadow(points, normal):
    """How much of the lamp, a disc, each point sees."""
    rng = np.random.default_rng(3)
    seen = np.zeros(points.shape[:-1])
    n = 12
    for _ in range(n):
        ray = unit(LAMP + rng.normal(size=3) * 0.35 - points)
        blocked = np.zeros(points.shape[:-1], bool)
        for centre, radius in SPHERES:
            blocked |= np.isfinite(sphere_hits(points + normal * 0.01, ray, centre, radius))
        seen += ~blocked
    return seen / n


def render():
    w, h = WIDTH * SUPERSAMPLE, HEIGHT * SUPERSAMPLE
    eye, target = np.array([0.0, 2.6, 6.6]), np.array([0.0, 0.78, 0.2])
    forward = unit(target - eye)
    right = unit(np.cross(forward, [0.0, 1.0, 0.0]))
    up = np.cross(right, forward)
    x, y = np.meshgrid((np.arange(w) + 0.5) / w - 0.5, 0.5 - (np.arange(h) + 0.5) / h)
    ray = unit(forward + (x * w / h)[..., None] * 0.62 * right + y[..., None] * 0.62 * up)

    table = np.where(ray[..., 1] < -1e-4, -eye[1] / np.minimum(ray[..., 1], -1e-4), np.inf)
    nearest, which = table, np.full(table.shape, -1)
    for i, (centre, radius) in enumerate(SPHERES):
        distance = sphere_hits(eye, ray, centre, radius)
        which = np.where(distance < nearest, i, which)
        nearest = np.minimum(distance, nearest)

    wall = 0.25 + 0.35 * np.clip(1 - np.hypot(x - 0.1, y - 0.3), 0, 1)
    image = wall[..., None] * np.array([0.62, 0.60, 0.55])
    at = np.isfinite(nearest) & (nearest < 30)
    points = eye + ray[at] * nearest[at][..., None]
    kind = which[at]
    normal = np.tile(np.array([0.0, 1.0, 0.0]), (points.shape[0], 1))
    grain = noise(points * np.array([1.5, 1, 14]), 11)
    colour = np.array([0.40, 0.25, 0.14]) * (1 + 0.13 * grain)[..., None]
    gloss = np.full(points.shape[0], 0.06)
    for i, (centre, radius) in enumerate(SPHERES):
        on = kind == i
        n = unit(points[on] - np.array(centre))
        dimples = np.stack([noise(n * 46 + k * 9.0, 20 + i * 3 + k) for k in range(3)], -1)
        patches = noise(n * 3.0, 40 + i)
        normal[on] = unit(n + 0.055 * dimples)
        colour[on] = np.array([0.93, 0.40, 0.03]) * (1 + 0.07 * patches[..., None] * np.array([0.5, 1.2, 0.3]))
        top = np.clip(1 - np.linalg.norm(n - unit(np.array([0.25 - 0.3 * i, 0.95, 0.35])), axis=-1) / 0.14, 0, 1)
        colour[on] = colour[on] * (1 - top[..., None]) + np.array([0.20, 0.23, 0.05]) * top[..., None]
        gloss[on] = 0.5
    light = unit(LAMP - points)
    lit = np.clip((normal * light).sum(-1), 0, 1) * shadow(points, normal)
    half = unit(light - ray[at])
    shine = gloss * np.clip((normal * half).sum(-1), 0, 1) ** 38 * (lit > 0)
    bounce = 0.5 + 0.5 * normal[:, 1]
    near = np.ones(points.shape[0])
    for centre, radius in SPHERES:  # contact shadows on the table
        gap = np.hypot(points[:, 0] - centre[0], points[:, 2] - centre[2]) / radius
        near *= np.where(kind < 0, np.clip(0.35 + 0.65 * gap, 0, 1), 1)
    shade = colour * (0.95 * lit + 0.26 * near * bounce + 0.06)[..., None] + shine[..., None]
    fade = np.clip((nearest[at] - 9) / 9, 0, 1)[..., None] * (kind < 0)[..., None]
    image[at] = shade * (1 - fade) + image[at] * fade

    image = image.reshape(HEIGHT, SUPERSAMPLE, WIDTH, SUPERSAMPLE, 3).mean((1, 3))
    image = np.clip(image, 0, 1) ** (1 / 1.9)
    image += np.random.default_rng(1).normal(scale=0.008, size=image.shape)
    return Image.fromarray((np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8))


render().save(sys.argv[1], quality=92)
