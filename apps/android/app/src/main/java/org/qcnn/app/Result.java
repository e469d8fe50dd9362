// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import java.util.Locale;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;

/** What a network said of one photo. The id is the time at which it did. */
final class Result {
    long id;
    String[] labels;       // likeliest first
    float[] probabilities; // of the same
    double decodeMs, preprocessMs, networkMs;
    int width, height; // of the photo as it was chosen
    String model;
    long modelBytes;
    double ratio; // how many times smaller than float32
    int classes;  // that the model tells apart

    /** "goldfish, Carassius auratus": the first name, with a capital. */
    static String firstName(String label) {
        int comma = label.indexOf(',');
        String name = comma < 0 ? label : label.substring(0, comma);
        return name.isEmpty() ? name : name.substring(0, name.offsetByCodePoints(0, 1)).toUpperCase(Locale.ENGLISH) + name.substring(name.offsetByCodePoints(0, 1));
    }

    /** The names after the first; may be empty. */
    static String otherNames(String label) {
        int comma = label.indexOf(',');
        return comma < 0 ? "" : label.substring(comma + 1).trim();
    }

    String toJson() throws JSONException {
        JSONArray names = new JSONArray(), values = new JSONArray();
        for (int i = 0; i < labels.length; i++) {
            names.put(labels[i]);
            values.put(probabilities[i]);
        }
        return new JSONObject().put("id", id).put("labels", names).put("probabilities", values).put("decode_ms", decodeMs)
            .put("preprocess_ms", preprocessMs).put("network_ms", networkMs).put("width", width).put("height", height)
            .put("model", model).put("model_bytes", modelBytes).put("ratio", ratio).put("classes", classes).toString();
    }

    static Result fromJson(String text) throws JSONException {
        JSONObject json = new JSONObject(text);
        JSONArray names = json.getJSONArray("labels"), values = json.getJSONArray("probabilities");
        Result result = new Result();
        result.id = json.getLong("id");
        result.labels = new String[names.length()];
        result.probabilities = new float[names.length()];
        for (int i = 0; i < names.length(); i++) {
            result.labels[i] = names.getString(i);
            result.probabilities[i] = (float) values.getDouble(i);
        }
        if (names.length() == 0)
            throw new JSONException("no labels");
        result.decodeMs = json.getDouble("decode_ms");
        result.preprocessMs = json.getDouble("preprocess_ms");
        result.networkMs = json.getDouble("network_ms");
        result.width = json.getInt("width");
        result.height = json.getInt("height");
        result.model = json.getString("model");
        result.modelBytes = json.getLong("model_bytes");
        result.ratio = json.getDouble("ratio");
        result.classes = json.getInt("classes");
        return result;
    }
}
